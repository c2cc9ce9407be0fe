"""One training run, from its configuration to the saved explainer."""

import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import SIGTERMException

from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.cli.validation import Node
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.mixed import Task
from saliency_vae.models import Explainer, ExplainerConfig
from saliency_vae.objective import Objective
from saliency_vae.runtime.memory import LESS, is_out_of_memory, suggesting
from saliency_vae.training import settings
from saliency_vae.training.checkpoints import last_checkpoint, run_checkpoints
from saliency_vae.training.finalize import finish
from saliency_vae.training.initial_weights import start_from
from saliency_vae.training.module import Execution, VariationalSaliency
from saliency_vae.training.processes import ending_with_children, ending_with_parent
from saliency_vae.training.resume import checkpoint_path, how_to_resume, read_checkpoint

# Settings that an explainer's configuration takes over from that of its training.
_RECIPE = (
    *("name", "encoder", "prior", "posterior", "optimizer"),
    *(field.name for field in fields(Objective)),
)

# Lightning's messages about other hardware, other products, and what it does anyway.
_NOISE = ("TPU available", "\N{ELECTRIC LIGHT BULB} Tip", "Loading `train_dataloader` to estimate")


def run_training(config: Node, run: Path) -> float:
    """Train an explainer, and write all files of the run's directory.

    Args:
        config: Resolved configuration.
        run: Directory of the run.

    Returns:
        Lowest validation loss.

    Raises:
        ValueError: If a setting is wrong, before anything is downloaded or trained.
        SystemExit: With status 143 at SIGTERM, once the step is saved; with 130 at Ctrl-C.
    """
    settings.check(config)
    config = with_randomised_classifier(config)
    _log_once()
    with ending_with_parent(run):
        return _train(config, run)


def _train(config: Node, run: Path) -> float:
    seed_everything(config["seed"], verbose=False)
    ckpt_path = checkpoint_path(config["ckpt_path"], run)
    if ckpt_path is not None:
        read_checkpoint(ckpt_path)
    try:
        trainer, module, data = prepare(config)
    except KeyboardInterrupt:  # there is nothing to save yet
        raise SystemExit(128 + SIGINT) from None
    for logger in trainer.loggers:
        logger.log_hyperparams(config)
    with _saying_how_to_resume(trainer, run), ending_with_children(trainer, run):
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        if _lacks_validation(trainer):
            trainer.validate(module, datamodule=data, verbose=False)
        run = Path(trainer.strategy.broadcast(str(run)))  # each process of torchrun has its own
        return finish(trainer, module, data, config, run)["val/loss"]


def _lacks_validation(trainer: Trainer) -> bool:
    """Whether a resumed run had nothing left to train, but something to validate."""
    checkpoints = run_checkpoints(trainer)
    assert checkpoints is not None
    unvalidated = checkpoints.validated_step != trainer.global_step
    return trainer.strategy.broadcast(unvalidated or math.isinf(checkpoints.lowest_loss))


def with_randomised_classifier(config: Node) -> Node:
    """Wrap the classifier's node, if it is to be explained with shuffled weights.

    With tasks, the node of each task is wrapped.
    """
    if not config["randomise_classifier"]:
        return config
    target = f"{randomised_classifier.__module__}.{randomised_classifier.__name__}"

    def wrapped(part: Node) -> Node:
        node = {"_target_": target, "classifier": part["classifier"], "seed": config["seed"]}
        return {**part, "classifier": node}

    if config["tasks"]:
        return {**config, "tasks": {name: wrapped(task) for name, task in config["tasks"].items()}}
    return wrapped(config)


def prepare(config: Node) -> tuple[Trainer, VariationalSaliency, SaliencyDataModule]:
    """Build the parts of a run; those to be downloaded or trained come last.

    Raises:
        ValueError: If a setting is wrong.
    """
    tasks = [
        Task(name, _build(node["data"]), node.get("weight", 1.0))
        for name, node in config["tasks"].items()
    ]
    data: SaliencyDataModule = _build(config["data"], **({"tasks": tasks} if tasks else {}))
    recorded = ExplainerConfig(**{name: config[name] for name in _RECIPE})
    recorded.check_loadable()
    explainer = Explainer.from_config(recorded)
    if config["init"] is not None:
        start_from(explainer, config["init"])
    objective = explainer.objective()
    optimizer = _build(config["optimizer"])
    scheduler = config["scheduler"] and _build(config["scheduler"])
    settings.try_out(config, optimizer, scheduler)
    # Without a terminal a bar would print line after line; ProgressLines replaces it.
    shown = {"enable_progress_bar": sys.stdout.isatty(), **config["trainer"]}
    trainer: Trainer = settings.build(
        {**config, "trainer": shown},
        "trainer",
        logger=[_build(logger) for logger in config["logger"].values() if logger],
        callbacks=[_build(callback) for callback in config["callbacks"].values() if callback],
    )
    data.per_device_batch_size(trainer)  # raises before anything is downloaded
    nodes = [node["classifier"] for node in config["tasks"].values()] or [config["classifier"]]
    classifiers = [_build(node) for node in nodes]
    for images, classifier in zip([t.data for t in tasks] or [data], classifiers, strict=True):
        images.preprocessing = classifier.preprocessing
    module = VariationalSaliency(
        explainer,
        classifiers,
        objective,
        optimizer,
        scheduler=scheduler,
        execution=Execution(config["channels_last"], config["compile"]),
        confidence_width=config["confidence_width"],
        seed=config["seed"],
    )
    return trainer, module, data


def _log_once() -> None:
    """Leave Lightning's messages to Hydra, which prints them and keeps them in ``train.log``.

    With its own handlers as well, Lightning would print each message twice. Messages that say
    nothing about the run are left out.
    """
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for handler in logging.root.handlers:
        if _is_of_the_run not in handler.filters:
            handler.addFilter(_is_of_the_run)
    # Lightning 2.6 calls a pytree helper that torch 2.15 deprecates.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


def _is_of_the_run(record: logging.LogRecord) -> bool:
    """Whether a message is about the run, unlike those of :data:`_NOISE`."""
    return not record.getMessage().startswith(_NOISE)


@contextmanager
def _saying_how_to_resume(trainer: Trainer, run: Path) -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into one line on how to resume, and the usual exit status.

    Running out of memory, or a killed loader process, also becomes one line, with advice. An error
    that all processes have found together is reported only by the first.
    """
    try:
        yield
    except SIGTERMException as stopped:
        number = getattr(stopped, "number", SIGTERM)
        _say_where_stopped(trainer, run, "Ctrl-C" if number == SIGINT else "SIGTERM")
        raise SystemExit(128 + number) from None
    except (SystemExit, KeyboardInterrupt) as ended:  # Lightning raises one from the other
        if not any(isinstance(e, KeyboardInterrupt) for e in (ended, ended.__context__)):
            raise
        _say_where_stopped(trainer, run, "Ctrl-C")
        raise SystemExit(128 + SIGINT) from None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        with suggesting(LESS["train"], f"{_kept(trainer)} {how_to_resume(run)}"):
            raise
    except FloatingPointError:
        if trainer.is_global_zero:
            raise
        raise SystemExit(1) from None


def _say_where_stopped(trainer: Trainer, run: Path, by: str) -> None:
    """Print at which step a run was stopped, its last checkpoint, and how to resume."""
    if trainer.is_global_zero:
        print(
            f"Stopped by {by} at step {trainer.global_step}. {_kept(trainer)} {how_to_resume(run)}"
        )


def _kept(trainer: Trainer) -> str:
    """Sentence that names the last checkpoint of a run."""
    return f"Last checkpoint: {last_checkpoint(trainer)}."


def _build(node: Node, **further: Any) -> Any:
    """Build what a configuration node names."""
    return instantiate(node, **further, _convert_="all")
