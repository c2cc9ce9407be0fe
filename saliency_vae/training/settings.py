"""Checks of training settings that no single part makes, before anything starts."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from saliency_vae.cli.schemas import TrainerBounds
from saliency_vae.cli.validation import Node, check_bounds
from saliency_vae.metrics import imputation
from saliency_vae.runtime.text import did_you_mean, one_line

_PARTS = (
    *("data", "classifier", "encoder", "prior"),
    *("topk", "perturbation", "optimizer", "trainer"),
)
_OF_TASK = ("classifier", "data", "weight")
_ONE_CYCLE = "torch.optim.lr_scheduler.OneCycleLR"
_FIRST_BETA = 0.9  # of conf/optimizer/adam.yaml
_PROCESSES = 4  # most processes per core, if there is no accelerator
_TRIED_STEPS = 10


def check(config: Node) -> None:
    """Refuse a configuration whose run would fail late, or end without an explainer.

    Raises:
        ValueError: If a part is missing, the perturbation is an imputation, or a setting of
            the trainer or the data is out of range.
    """
    for part in _PARTS:
        if part == "classifier" and config["tasks"]:  # each task has its own
            continue
        if "_target_" not in config[part]:
            raise ValueError(f"Expected {part}=OPTION or {part}._target_. Found {config[part]}.")
    _check_tasks(config["tasks"])
    if config["tasks"]:
        _check_beside_tasks(config)
    if _answers_targets(config["encoder"]) and config["sharpness"] != 1:
        raise ValueError(
            "Expected sharpness=1 with an encoder that is asked about one class, which is "
            f"reconstructed without it. Found {config['sharpness']}."
        )
    _check_momentum(config["optimizer"], config["scheduler"] or {})
    _check_perturbation(config["perturbation"])
    _check_trainer(config["trainer"])
    _check_devices(config["trainer"])
    if not config["callbacks"].get("checkpoints"):
        raise ValueError(
            "Expected callbacks.checkpoints, without which there is no explainer. Found none."
        )
    batch_size, train_size = (config["data"].get(name) for name in ("batch_size", "train_size"))
    if None not in (batch_size, train_size) and train_size < batch_size:
        raise ValueError(
            f"Expected data.batch_size <= data.train_size={train_size}. Found {batch_size}."
        )


def _check_tasks(tasks: Node) -> None:
    """Refuse tasks without classifier or data, or with other settings."""
    for name, task in tasks.items():
        for part in ("data", "classifier"):
            node = task.get(part) if isinstance(task, dict) else task
            if not (isinstance(node, dict) and "_target_" in node):
                raise ValueError(
                    f"Expected tasks.{name}.{part}._target_: each task has data and a classifier, "
                    f"as those of experiment=universal. Found {node}."
                )
        if not isinstance(task.get("weight", 1), int | float):
            raise ValueError(f"Expected tasks.{name}.weight > 0. Found {task['weight']}.")
        for key in task:
            if key not in _OF_TASK:
                raise ValueError(
                    f"Expected tasks.{name} to have {', '.join(_OF_TASK)}. "
                    f"Found tasks.{name}.{key}.{did_you_mean(key, _OF_TASK)}"
                )


def _check_beside_tasks(config: Node) -> None:
    """Refuse settings that, with tasks, have no effect or make an unusable explainer."""
    encoder = config["encoder"]["_target_"]
    if not _answers_targets(config["encoder"]):
        raise ValueError(
            "Expected encoder=universal_unet with tasks: an explainer for several classifiers is "
            f"asked about any of them. Found {encoder}."
        )
    if config["confidence_width"] is not None:
        raise ValueError(
            "Expected confidence_width=null with tasks: the confidence is measured on the "
            f"classifier. Found {config['confidence_width']}."
        )
    for override in HydraConfig.get().overrides.task if HydraConfig.initialized() else ():
        if override.lstrip("+").startswith(("classifier=", "classifier.")):
            raise ValueError(
                "Expected tasks.NAME.classifier: each task has its own classifier. "
                f"Found {override}, which no task uses."
            )


def _answers_targets(encoder: Node) -> bool:
    """Whether a node builds an encoder that can explain any target class."""
    return bool(getattr(get_object(encoder["_target_"]), "answers_targets", False))


def _check_momentum(optimizer: Node, scheduler: Node) -> None:
    """Refuse a changed first beta if the scheduler would override it."""
    cycles = scheduler.get("_target_") == _ONE_CYCLE and scheduler.get("cycle_momentum", True)
    betas = optimizer.get("betas")
    if cycles and isinstance(betas, list) and betas[:1] != [_FIRST_BETA]:
        raise ValueError(
            f"Expected optimizer.betas=[{_FIRST_BETA}, ...] with scheduler=one_cycle, which moves "
            f"the first one between .85 and .95 itself. Found {betas}: "
            "+scheduler.cycle_momentum=false keeps it."
        )


def _check_perturbation(perturbation: Node) -> None:
    """Refuse imputations, also within a mixture."""
    for target in _targets(perturbation):
        if getattr(get_object(target), "__module__", None) == imputation.__name__:
            raise ValueError(
                "Expected a perturbation of saliency_vae.perturbations. Found "
                f"perturbation._target_={target}: in-painting and noisy linear imputation are kept "
                "for evaluation, so that some baseline is always unseen in training."
            )


def _targets(node: Any) -> Iterator[str]:
    """Yield the import paths in a node and in the nodes within it."""
    if isinstance(node, list):
        for item in node:
            yield from _targets(item)
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)


def _check_trainer(trainer: Node) -> None:
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    if epochs is not None and epochs < 1 and not (epochs == -1 and steps > 0):
        raise ValueError(
            f"Expected trainer.max_epochs >= 1, or -1 beside trainer.max_steps. Found {epochs}."
        )
    if steps < 1 and steps != -1:
        raise ValueError(f"Expected trainer.max_steps >= 1, or -1 for no limit. Found {steps}.")
    if trainer.get("fast_dev_run"):
        raise ValueError(
            "Expected trainer.max_steps for a short run. Found trainer.fast_dev_run, after which "
            "there is no checkpoint and no explainer."
        )
    precision = str(trainer.get("precision", 32))
    if precision in ("64", "64-true", "16-true", "bf16-true"):
        raise ValueError(
            "Expected trainer.precision=32-true, bf16-mixed or 16-mixed: distributions and losses "
            f"are computed in float32. Found {precision}."
        )
    for own in ("logger", "callbacks"):
        if own in trainer:
            raise ValueError(
                f"Expected settings of {own}.NAME, a group of its own. Found trainer.{own}."
            )
    check_bounds(trainer, TrainerBounds, "trainer")


def _check_devices(trainer: Node) -> None:
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    present = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if not present and accelerator in ("gpu", "cuda", "mps"):
        raise ValueError(
            "Expected trainer.accelerator=auto or cpu on a machine without an accelerator. "
            f"Found {accelerator}."
        )
    if accelerator == "cpu" or not present:
        most = _PROCESSES * (os.cpu_count() or 1)
        limit = f"{most}, {_PROCESSES} processes for each core of the CPU"
    else:
        most, limit = present, f"{present}, as many as this machine has"
    asked = len(devices) if isinstance(devices, list) else devices
    if isinstance(asked, int) and asked != -1 and not 1 <= asked <= most:
        raise ValueError(f"Expected 1 <= trainer.devices <= {limit}. Found {devices}.")


def build(config: Node, part: str, **further: Any) -> Any:
    """Build a part from other code, such as Lightning, whose errors do not name the setting.

    Args:
        config: Resolved configuration.
        part: Key of the part in it.
        further: Arguments that are already built.

    Raises:
        ValueError: If the part does not accept its settings.
    """
    try:
        return instantiate(config[part], **further, _convert_="all")
    except InstantiationException as error:
        raise _refused(config, part, error.__cause__ or error) from None


def try_out(
    config: Node,
    make_optimizer: Callable[..., Optimizer],
    make_scheduler: Callable[..., LRScheduler] | None,
) -> None:
    """Build optimizer and scheduler for a dummy parameter, so that wrong settings fail early.

    Args:
        config: Resolved configuration, for messages.
        make_optimizer: Function from a list of parameters to an optimizer.
        make_scheduler: Function from an optimizer to a scheduler; None for a constant rate.

    Raises:
        ValueError: If they do not accept their settings, or a learning rate is not positive.
    """
    parameter = nn.Parameter(torch.zeros(1))
    try:
        optimizer = make_optimizer([parameter])
    except Exception as error:  # torch raises errors of any kind
        raise _refused(config, "optimizer", error) from None
    for group in optimizer.param_groups:
        if not group["lr"] > 0:
            raise ValueError(f"Expected optimizer.lr > 0. Found {group['lr']}.")
    if make_scheduler is None:
        return
    try:
        rates = make_scheduler(optimizer, total_steps=_TRIED_STEPS).get_last_lr()
    except Exception as error:  # so do schedulers
        raise _refused(config, "scheduler", error) from None
    if min(rates) < 0:
        why = ValueError(f"its learning rate starts at {min(rates)}")
        raise _refused(config, "scheduler", why)


def _refused(config: Node, part: str, error: BaseException) -> ValueError:
    """Make an error that names a part's settings beside the message of its own code."""
    settings = ", ".join(
        f"{part}.{name}={value}" for name, value in config[part].items() if name[0] != "_"
    )
    target = str(config[part]["_target_"]).rpartition(".")[2]
    why = one_line(error).rstrip(".")
    return ValueError(f"Expected settings that {target} takes: {why}. Found {settings}.")
