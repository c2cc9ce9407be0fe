"""Training from Python, with your own classifier and images."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from saliency_vae.classifiers import FrozenClassifier, check_frozen
from saliency_vae.data.own_images import OwnData, Photographs
from saliency_vae.models import Explainer
from saliency_vae.objective import Objective
from saliency_vae.training.module import VariationalSaliency

_STEPS = 300  # by default


def fit(
    explainer: Explainer,
    classifier: FrozenClassifier,
    images: Photographs | OwnData,
    *,
    steps: int | None = None,
    objective: Objective | None = None,
    trainer: Trainer | None = None,
    lr: float = 5e-4,
) -> Explainer:
    """Train an explainer for a classifier on your own images.

    The universal explainer is fine-tuned. For more control, train the LightningModule
    :class:`VariationalSaliency` yourself.

    Args:
        explainer: Explainer to train, in place.
        classifier: Classifier to explain, which stays as it is.
        images: Files, PIL images, arrays or tensors, or a data set of these, see
            :class:`saliency_vae.data.own_images.OwnImages`. With a confidence network or
            ``trainer``, a tenth (at least one) is held out for validation; otherwise all train. Or
            an :class:`OwnData` with its own training and validation images and batch size.
        steps: Number of steps, 300 by default; not with ``trainer``, which has its own limit.
        objective: Objective to minimise; by default that of the explainer's configuration.
        trainer: Lightning's trainer, with ``max_epochs`` or ``max_steps``; the default one trains
            on one device, shows progress and keeps no files.
        lr: Peak learning rate of Adam, on a one-cycle schedule.

    Returns:
        The explainer, ready for use, with the classifier attached.

    Raises:
        ValueError: If an argument is invalid, or if the training diverges, which leaves the
            explainer unchanged.
    """
    _check(explainer, steps, objective, trainer)
    check_frozen(classifier)
    validates = trainer is not None or explainer.confidence is not None
    data = images if isinstance(images, OwnData) else _split(images, validates)
    data.preprocessing = classifier.preprocessing
    with _training(explainer, classifier, lr), nullcontext() if trainer else _quiet_lightning():
        objective = objective or explainer.objective()
        module = VariationalSaliency(
            explainer, classifier, objective, seed=data.seed, **_optimization(lr)
        )
        trainer = trainer or _trainer(steps, validates)
        trainer.fit(module, datamodule=data, weights_only=True)
    return explainer


def _check(
    explainer: Explainer, steps: int | None, objective: Objective | None, trainer: Trainer | None
) -> None:
    if trainer is not None and steps is not None:
        raise ValueError(
            f"Expected steps or trainer. Found steps={steps} beside a trainer, which stops at its "
            "own max_epochs or max_steps."
        )
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ValueError(f"Expected steps >= 1, a whole number. Found {steps}.")
    if objective is not None and objective.sharpness != 1 and explainer.is_universal:
        raise ValueError(
            "Expected an objective of sharpness 1 for a universal explainer, which is asked about "
            f"one class. Found {objective.sharpness}."
        )


@contextmanager
def _training(explainer: Explainer, classifier: FrozenClassifier, lr: float) -> Iterator[None]:
    """Put an explainer into training mode, and leave it ready for use, whatever happens.

    Explainer and classifier return to their devices, as Lightning moves both to the CPU.
    """
    before = {name: value.clone() for name, value in explainer.state_dict().items()}
    encoder, recorded = explainer.encoder, explainer.recorded  # may be rebuilt for its features
    devices = next(explainer.parameters()).device, classifier.mean.device
    explainer.requires_grad_().train()
    every_gpu = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(every_gpu):  # each step seeds all of them
            yield
    finally:
        explainer.requires_grad_(False).eval().to(devices[0])
        classifier.to(devices[1])
    if not all(weights.isfinite().all() for weights in explainer.parameters()):
        explainer.encoder, explainer.recorded = encoder, recorded
        explainer.load_state_dict(before)
        explainer.requires_grad_(False).eval().to(devices[0])
        raise ValueError(
            "Expected a training that converges. Found weights that are not finite after it, and "
            f"left the explainer as it was: try a learning rate below lr={lr}."
        )


def _split(images: Photographs, validates: bool) -> OwnData:
    """Hold out a random tenth of the images for validation, or none; batches of at most 16."""
    is_indexed = hasattr(images, "__getitem__") and hasattr(images, "__len__")
    if isinstance(images, str | os.PathLike | Mapping) or not is_indexed:
        raise ValueError(
            "Expected images to be a list of photographs or files, such as "
            "sorted(Path('photos').glob('*.jpg')), or a data set of them. "
            f"Found {type(images).__name__}."
        )
    if len(images) < 1 + validates:
        least = "two images, one to validate on" if validates else "one image"
        raise ValueError(f"Expected at least {least}. Found {len(images)}.")
    if not validates:  # the validation images are not used
        return OwnData(images, images, batch_size=min(16, len(images)))
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    number = max(1, len(images) // 10)
    data = cast("Dataset[Any]", images)
    val, train = Subset(data, order[:number]), Subset(data, order[number:])
    return OwnData(train, val, batch_size=min(16, len(train)))


def _optimization(lr: float) -> dict[str, Any]:
    return {
        "optimizer": partial(torch.optim.Adam, lr=lr, betas=(0.9, 0.99)),
        "scheduler": partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=lr),
    }


def _trainer(steps: int | None, validates: bool) -> Trainer:
    return Trainer(
        limit_val_batches=1.0 if validates else 0,
        devices=1,  # each further one would rerun the user's script
        max_epochs=-1,
        max_steps=_STEPS if steps is None else steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[_StepBar()],
    )


class _StepBar(Callback):
    """Progress bar over all steps; Lightning's restarts at every epoch, often a few steps here."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        silent = not trainer.is_global_zero
        self.bar = tqdm(
            total=trainer.max_steps, desc="fit", unit="step", file=sys.stdout, disable=silent
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.bar.set_postfix_str(f"loss {outputs['loss'].item():.3f}", refresh=False)
        self.bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.close()


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's messages about devices, its services and loader processes."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*treespec, LeafSpec", FutureWarning)
            warnings.filterwarnings("ignore", ".*does not have many workers", UserWarning)
            yield
    finally:
        log.setLevel(level)
