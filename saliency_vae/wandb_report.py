"""The results of an evaluation at W&B: numbers as panels, the ranking as a table, the figures."""

from collections.abc import Mapping
from io import BytesIO

import wandb
from lightning.pytorch.loggers import WandbLogger
from matplotlib.figure import Figure
from PIL import Image

from saliency_vae.results import Results


def log_results(logger: WandbLogger, results: Results, figures: Mapping[str, Figure]) -> None:
    """Log once, and end the run: what W&B says then does not follow what the command says.

    Args:
        logger: Of the run.
        results: What was found.
        figures: By name.
    """
    table = wandb.Table(columns=["method", "metric", "mean", "low", "high"])
    means: dict[str, float] = {}
    for metric, by_method in results.intervals.items():
        for method, interval in by_method.items():
            table.add_data(method, metric, *(float(value) for value in interval))
            means[f"{metric}/{method}"] = float(interval.mean)
    seconds = {f"seconds/{method}": value for method, value in results.seconds.items()}
    pictures = {f"figures/{name}": wandb.Image(_pixels(f)) for name, f in figures.items()}
    logger.log_hyperparams(results.about)
    logger.experiment.log({"evaluation": table, **means, **seconds, **pictures})
    logger.experiment.finish()


def _pixels(figure: Figure) -> Image.Image:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return Image.open(buffer)
