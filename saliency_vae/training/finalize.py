"""The end of a run: the explainer of lowest validation loss, tested, saved and shown."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from rich.console import Console
from rich.table import Table
from torch.utils.data import Dataset

from saliency_vae import __version__
from saliency_vae.classifiers.recorded import built_in_weights
from saliency_vae.cli.validation import Node
from saliency_vae.data import Batch
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.models import FIGURE, save_explainer
from saliency_vae.models.undertrained import undertrained
from saliency_vae.training.comparison import as_line, compare_with_gradient
from saliency_vae.training.logged import log_best
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.training.panels import draw_explanations
from saliency_vae.visualization.figures import save_figure


def finish(
    trainer: Trainer, module: VariationalSaliency, data: SaliencyDataModule, config: Node, run: Path
) -> dict[str, float]:
    """Turn the checkpoint of lowest validation loss into an explainer, and report its metrics.

    Args:
        trainer: Trainer whose run has ended.
        module: Module of the run; the best weights are loaded into it.
        data: Data of the run; the explainer is tested if there are test images.
        config: Resolved configuration of the run.
        run: Directory of the run.

    Returns:
        Metrics of the explainer.
    """
    # Another machine may not see the first one's files.
    best = trainer.strategy.broadcast(_read_best(run) if trainer.is_global_zero else {})
    module.load_state_dict(best["state_dict"])
    metrics: dict[str, float] = best["metrics"]
    if trainer.is_global_zero:  # first, as the rest may run out of memory or time
        _record(module, config, data.val_set, {})
        save_explainer(module.explainer, run / "explainer")
    shown = data.val_set
    if data.has_test_set:
        metrics |= dict(trainer.test(module, datamodule=data, verbose=False)[0])
        shown = data.test_set
    if trainer.is_global_zero:
        batch_size = data.per_device_batch_size(trainer)
        metrics |= compare_with_gradient(module, data.val_set, batch_size)
        _record(module, config, shown, metrics)
        _save(module, shown, run, batch_size)
        log_best(trainer.loggers, config, metrics)
        _show(metrics, run)
    trainer.strategy.barrier()
    return metrics


def _read_best(run: Path) -> dict[str, Any]:
    """Read weights and metrics of the checkpoint of lowest validation loss."""
    best = torch.load(run / "checkpoints/best.ckpt", map_location="cpu", weights_only=True)
    return {name: best[name] for name in ("state_dict", "metrics")}


def _record(
    module: VariationalSaliency, config: Node, shown: Dataset[Batch], metrics: dict[str, float]
) -> None:
    """Record in the explainer how it was trained, and for which classifier."""
    height, width = shown[0]["image"].shape[-2:]
    several = len(module.classifiers) > 1
    part: Node = next(iter(config["tasks"].values()), config)  # a single task's, or the run's own
    identity = replace(module.classifier.identity(), builder=part["classifier"])
    module.explainer.record(
        classifier=None if several else identity,
        classifiers=tuple(c.identity() for c in module.classifiers) if several else None,
        data=None if several else part["data"],
        preprocessing=None if several else module.classifier.preprocessing,
        image_size=None if several else (height, width),
        command=" ".join(["python -m saliency_vae.train", *sys.argv[1:]]),
        version=__version__,
        metrics=metrics,
    )
    module.explainer.kept_classifier = None if several else built_in_weights(part["classifier"])


def _save(module: VariationalSaliency, shown: Dataset[Batch], run: Path, batch_size: int) -> None:
    """Write the explainer and a picture of its explanations."""
    figure = run / FIGURE
    save_figure(draw_explanations(module, shown, number=8, batch_size=batch_size), figure)
    module.explainer.figure = figure
    save_explainer(module.explainer, run / "explainer")


def _show(metrics: dict[str, float], run: Path) -> None:
    """Print the metrics and where the run's files are."""
    Console().print(metrics_table(metrics))
    print(as_line(metrics))
    if (warning := undertrained(metrics)) is not None:
        print(f"warning: {warning}")
    print(f"Run directory: {run}\nExplainer:     {run / 'explainer'}")
    print(run / FIGURE)


def metrics_table(metrics: dict[str, float]) -> Table:
    """Make a table of the best explainer's metrics: one row each, one column per split."""
    splits = sorted({name.split("/")[0] for name in metrics}, reverse=True)
    table = Table("", *splits, title="Explainer of lowest validation loss")
    for name in dict.fromkeys(name.split("/")[1] for name in metrics):
        values = [metrics.get(f"{split}/{name}") for split in splits]
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    return table
