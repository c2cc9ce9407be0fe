"""Train an explainer for a classifier.

python -m saliency_vae.train                                  the paper's: ImageNet, ResNet-50
python -m saliency_vae.train experiment=cluttered_digits      built-in data, minutes on a CPU
python -m saliency_vae.train trainer.devices=4
python -m saliency_vae.train -m prior.correlation=0.5,0.9,0.99
python -m saliency_vae.train ckpt_path=last hydra.run.dir=RUN resume the run in directory RUN
"""

import sys
from dataclasses import fields
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import SIGTERMException

from saliency_vae.cli.command import command
from saliency_vae.cli.validation import Node
from saliency_vae.data.datamodule import SaliencyDataModule, per_device_batch_size
from saliency_vae.models import Explainer, ExplainerConfig
from saliency_vae.objective import Objective
from saliency_vae.training import settings as training_settings
from saliency_vae.training.checkpoints import last_checkpoint
from saliency_vae.training.finalize import finish
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.training.resume import (
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
    explainer = Explainer.from_config(ExplainerConfig(**{name: config[name] for name in RECIPE}))
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


def build(node: Node) -> Any:
    """Build what a configuration node names."""
    return instantiate(node, _convert_="all")


if __name__ == "__main__":
    sys.argv[1:] = with_overrides_of_run(sys.argv[1:])
    train()
