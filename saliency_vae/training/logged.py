"""Logs pictures and the best explainer's metrics to a run's loggers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from PIL import Image

_KEY = "explanations"  # of the pictures


def log_picture(loggers: Iterable[Logger], figure: Figure, file: Path, step: int) -> None:
    """Log a picture of explanations to all loggers that support pictures.

    Args:
        loggers: Loggers of the run.
        figure: The picture.
        file: Saved file of the picture; its name is the caption.
        step: Number of steps made.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(_KEY, [figure], step=step, caption=[file.stem.replace("_", " ")])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(_KEY, figure, step, close=False)
        elif isinstance(logger, MLFlowLogger) and logger.run_id is not None:
            with Image.open(file) as picture:
                logger.experiment.log_image(
                    logger.run_id, picture, key=_KEY, step=step, synchronous=True
                )


def log_best(
    loggers: Iterable[Logger], config: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Log the saved explainer's validation metrics, as ``best/...``, and end the run.

    With them W&B, TensorBoard and MLflow compare the runs of a sweep by their settings.

    Args:
        loggers: Loggers of the run.
        config: Settings of the run.
        metrics: Metrics of the explainer.
    """
    best = {
        f"best/{name.removeprefix('val/')}": value
        for name, value in metrics.items()
        if name.startswith("val/")
    }
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(best)
            logger.experiment.finish()  # prints its last lines before the run's own
        elif isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(config), best)
            logger.finalize("success")
        elif isinstance(logger, MLFlowLogger):
            logger.log_metrics(best)
