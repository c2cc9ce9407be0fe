"""Stops a run at a loss or gradient that is not finite, and names the images that caused it."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from saliency_vae.data import Batch
from saliency_vae.training.checkpoints import last_checkpoint

_NAMED = 8  # images in the error message


@runtime_checkable
class Named(Protocol):
    """A data set that names its images."""

    def name(self, index: int) -> str:
        """Name of the image at an index, such as its file."""


@dataclass
class _Seen:
    """Losses and gradient norm of a batch, not yet checked: they may still be computed."""

    place: str
    losses: Tensor
    index: Tensor | None
    gradient: Tensor | None = None


class StopAtNonFinite(Callback):
    """Ends the run at a loss or gradient that is not finite, naming the images it came from.

    Reading a number waits for the device. So numbers stay there and are checked every
    ``every_n_steps`` batches, at the end of each validation, and before a checkpoint is written: no
    checkpoint ever holds weights from after a broken step.

    Args:
        every_n_steps: Batches between two checks.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._seen: list[_Seen] = []
        self._gradient: Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep the norm of the gradients; in float16 the gradient scaler handles infinite ones."""
        if trainer.precision != "16-mixed":
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._gradient = get_total_norm(gradients)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Keep the losses of the batch; check now and then."""
        step = trainer.global_step + trainer.fit_loop._should_accumulate()
        place = f"step {step} (epoch {trainer.current_epoch}, batch {batch_idx})"
        self._seen.append(_Seen(place, outputs["losses"], batch.get("index"), self._gradient))
        self._gradient = None
        if len(self._seen) >= self.every_n_steps:
            self._check(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the losses of the batch."""
        place = f"validation after step {trainer.global_step} (batch {batch_idx})"
        self._seen.append(_Seen(place, outputs, batch.get("index")))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check what is left."""
        self._check(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check before a checkpoint is written."""
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        seen, self._seen = self._seen, []
        if not seen:
            return
        finite = [s.losses.isfinite().all() for s in seen]
        finite += [s.gradient.isfinite() for s in seen if s.gradient is not None]
        if not torch.stack(finite).all():
            raise _report(trainer, next(s for s in seen if not _is_finite(s)))


def _is_finite(seen: _Seen) -> bool:
    finite = seen.losses.isfinite().all()
    return bool(finite) and (seen.gradient is None or bool(seen.gradient.isfinite()))


def _report(trainer: Trainer, seen: _Seen) -> FloatingPointError:
    broken = ~seen.losses.isfinite()
    if broken.any():
        found = f"a loss of {seen.losses[broken][0].item()}"
        index = None if seen.index is None else seen.index[broken]
    else:
        assert seen.gradient is not None
        found, index = f"gradients of norm {seen.gradient.item()}", seen.index
    return FloatingPointError(
        f"Expected finite losses and gradients. Found {found} in {seen.place}, from "
        f"{_names(trainer, seen, index)}. Last good checkpoint: {last_checkpoint(trainer)}. "
        "Look at these images, or lower optimizer.lr, or set trainer.gradient_clip_val=1."
    )


def _names(trainer: Trainer, seen: _Seen, index: Tensor | None) -> str:
    if index is None:
        return "images without an index"
    loader = trainer.val_dataloaders if "validation" in seen.place else trainer.train_dataloader
    dataset = getattr(loader, "dataset", None)
    names = [
        dataset.name(i) if isinstance(dataset, Named) else f"image {i} of the data set"
        for i in index[:_NAMED].tolist()
    ]
    more = len(index) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
