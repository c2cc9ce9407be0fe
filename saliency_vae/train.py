"""Train an explainer for a classifier.

python -m saliency_vae.train                                  the paper's: ImageNet, ResNet-50
python -m saliency_vae.train experiment=cluttered_digits      built-in data, minutes on a CPU
python -m saliency_vae.train trainer.devices=4
python -m saliency_vae.train -m prior.correlation=0.5,0.9,0.99
python -m saliency_vae.train ckpt_path=last hydra.run.dir=RUN resume the run in directory RUN
"""

import sys
from dataclasses import asdict, fields
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from rich.table import Table

from saliency_vae import __version__, training_settings
from saliency_vae.callbacks import draw_explanations
from saliency_vae.checkpoints import last_checkpoint
from saliency_vae.command import command
from saliency_vae.configuration import Node
from saliency_vae.data.datamodule import SaliencyDataModule, per_device_batch_size
from saliency_vae.explainer import Explainer, save_explainer
from saliency_vae.figures import save_figure
from saliency_vae.model_card import FIGURE
from saliency_vae.module import VariationalSaliency
from saliency_vae.objective import Objective
from saliency_vae.resume import (
    checkpoint_path,
    how_to_resume,
    read_checkpoint,
    with_overrides_of_run,
)

# What an explainer's config.json takes over from the configuration.
RECIPE = (
    *("name", "encoder", "prior", "posterior", "optimizer"),
    *(field.name for field in fields(Objective)),
)


@command("train")
def train(config: Node, run: Path) -> float:
    """Train an explainer and write everything that a run's directory holds.

    Args:
        config: Resolved configuration.
        run: The run's directory.

    Returns:
        Lowest validation loss.

    Raises:
        ValueError: If a setting is wrong, before anything is downloaded or trained.
        SystemExit: With status 143, at SIGTERM, when it is saved; with 130 at Ctrl-C, as it is.
    """
    training_settings.check(config)
    seed_everything(config["seed"], verbose=False)
    ckpt_path = checkpoint_path(config["ckpt_path"], run)
    if ckpt_path is not None:
        read_checkpoint(ckpt_path)
    data: SaliencyDataModule = build(config["data"])
    explainer = Explainer.from_config({name: config[name] for name in RECIPE})
    objective = explainer.objective()
    optimizer = build(config["optimizer"])
    scheduler = config["scheduler"] and build(config["scheduler"])
    training_settings.try_out(config, optimizer, scheduler)
    trainer: Trainer = training_settings.build(
        config,
        "trainer",
        logger=[build(logger) for logger in config["logger"].values()],
        callbacks=[build(callback) for callback in config["callbacks"].values()],
    )
    per_device_batch_size(
        data.batch_size, devices=trainer.world_size, accumulate=trainer.accumulate_grad_batches
    )
    classifier = build(config["classifier"])
    data.preprocessing = classifier.preprocessing
    module = VariationalSaliency(
        explainer,
        classifier,
        objective,
        optimizer,
        scheduler=scheduler,
        channels_last=config["channels_last"],
        compile=config["compile"],
        confidence_width=config["confidence_width"],
        log_every_n_steps=config["trainer"]["log_every_n_steps"],
        seed=config["seed"],
    )
    for logger in trainer.loggers:
        logger.log_hyperparams(config)

    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    except SIGTERMException:
        say_where_stopped(trainer, run, "SIGTERM")
        raise SystemExit(128 + SIGTERM) from None
    except SystemExit as ended:
        if not isinstance(ended.__context__, KeyboardInterrupt):  # of which Lightning makes it
            raise
        say_where_stopped(trainer, run, "Ctrl-C")
        raise SystemExit(128 + SIGINT) from None
    run = Path(trainer.strategy.broadcast(str(run)))  # each process of torchrun has its own
    return finish(trainer, module, data, config, run)["val/loss"]


def say_where_stopped(trainer: Trainer, run: Path, by: str) -> None:
    """Say at which step a run was stopped, what is saved of it, and how to go on."""
    if trainer.is_global_zero:
        print(
            f"Stopped by {by} at step {trainer.global_step}. "
            f"Last checkpoint: {last_checkpoint(trainer)}. {how_to_resume(run)}"
        )


def finish(
    trainer: Trainer, module: VariationalSaliency, data: SaliencyDataModule, config: Node, run: Path
) -> dict[str, float]:
    """Turn the checkpoint of lowest validation loss into an explainer, and show what it does.

    Returns:
        Its metrics.
    """
    # Another machine may not see the first one's files.
    best = trainer.strategy.broadcast(read_best(run) if trainer.is_global_zero else {})
    module.load_state_dict(best["state_dict"])
    metrics: dict[str, float] = best["metrics"]
    shown = data.val_set
    if data.has_test_set:
        metrics |= dict(trainer.test(module, datamodule=data, verbose=False)[0])
        shown = data.test_set
    if trainer.is_global_zero:
        image_size = shown[0]["image"].shape[-2:]
        module.explainer.config |= {
            "classifier": {**module.classifier.identity(), "builder": config["classifier"]},
            "data": config["data"],
            "preprocessing": asdict(module.classifier.preprocessing),
            "image_size": list(image_size),
            "command": " ".join(["python -m saliency_vae.train", *sys.argv[1:]]),
            "version": __version__,
            "metrics": metrics,
        }
        figure = run / FIGURE
        save_figure(draw_explanations(module, shown, number=8), figure)
        module.explainer.figure = figure
        save_explainer(module.explainer, run / "explainer")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()  # says its last words before ours
        Console().print(metrics_table(metrics))
        print(f"Run directory: {run}\nExplainer:     {run / 'explainer'}")
        print(figure)
    trainer.strategy.barrier()
    return metrics


def read_best(run: Path) -> dict[str, Any]:
    """Read weights and metrics of the checkpoint of lowest validation loss."""
    best = torch.load(run / "checkpoints/best.ckpt", map_location="cpu", weights_only=True)
    return {name: best[name] for name in ("state_dict", "metrics")}


def metrics_table(metrics: dict[str, float]) -> Table:
    """Lay out the metrics of the best explainer: one row each, one column a split."""
    splits = sorted({name.split("/")[0] for name in metrics}, reverse=True)
    table = Table("", *splits, title="Explainer of lowest validation loss")
    for name in dict.fromkeys(name.split("/")[1] for name in metrics):
        values = [metrics.get(f"{split}/{name}") for split in splits]
        table.add_row(name, *("" if value is None else f"{value:.4f}" for value in values))
    return table


def build(node: Node) -> Any:
    """Build what a configuration node names."""
    return instantiate(node, _convert_="all")


if __name__ == "__main__":
    sys.argv[1:] = with_overrides_of_run(sys.argv[1:])
    train()
