"""Stops a run at a loss or gradient that is not finite, and names the images that caused it."""

from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.utils.data import ConcatDataset

from saliency_vae.data import Batch, image_name
from saliency_vae.training.checkpoints import last_checkpoint

_NAMED = 8  # images in the error message


@dataclass(frozen=True, order=True)
class _Broken:
    """Non-finite value found in a process; the first over all processes is the cause."""

    position: int  # among the batches that are checked together
    is_gradient: bool  # averaged, and so the same in all processes
    found: str
    place: str
    names: str


@dataclass
class _Seen:
    """Unchecked losses and gradient norm of a batch; the device may still be computing them."""

    place: str
    losses: Tensor
    index: Tensor | None
    task: int | None
    gradient: Tensor | None = None


class StopAtNonFinite(Callback):
    """Ends the run at a loss or gradient that is not finite, naming the images it came from.

    Reading a number waits for the device. So numbers stay there and are checked every
    ``every_n_steps`` batches, at the end of each validation, and before a checkpoint is written. So
    no checkpoint holds weights from after a broken step. Several processes check and end together.

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
        """Keep the losses of the batch; check every ``every_n_steps`` batches."""
        step = trainer.global_step + trainer.fit_loop._should_accumulate()
        place = f"step {step} (epoch {trainer.current_epoch}, batch {batch_idx})"
        index, task = batch.get("index"), batch.get("task")
        self._seen.append(_Seen(place, outputs["losses"], index, task, self._gradient))
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
        self._seen.append(_Seen(place, outputs, batch.get("index"), batch.get("task")))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the remaining batches."""
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
        all_finite = bool(torch.stack(finite).all())
        if trainer.strategy.reduce_boolean_decision(all_finite, all=True):
            return
        own = None if all_finite else _first_broken(trainer, seen)
        of_all = [trainer.strategy.broadcast(own, rank) for rank in range(trainer.world_size)]
        raise _report(trainer, [broken for broken in of_all if broken is not None])


def _first_broken(trainer: Trainer, seen: list[_Seen]) -> _Broken:
    position, first = next((i, s) for i, s in enumerate(seen) if not _is_finite(s))
    broken = ~first.losses.isfinite()
    if broken.any():
        index = None if first.index is None else first.index[broken]
        found = f"a loss of {first.losses[broken][0].item()}"
        return _Broken(position, False, found, first.place, _names(trainer, first, index))
    assert first.gradient is not None
    found = f"gradients of norm {first.gradient.item()}"
    return _Broken(position, True, found, first.place, _names(trainer, first, first.index))


def _is_finite(seen: _Seen) -> bool:
    finite = seen.losses.isfinite().all()
    return bool(finite) and (seen.gradient is None or bool(seen.gradient.isfinite()))


def _report(trainer: Trainer, broken: list[_Broken]) -> FloatingPointError:
    """Make the error, the same in all processes; it names the images that broke first."""
    first = min(broken)
    start = (first.position, first.is_gradient)
    began = [one for one in broken if (one.position, one.is_gradient) == start]
    return FloatingPointError(
        f"Expected finite losses and gradients. Found {first.found} in {first.place}, from "
        f"{', '.join(one.names for one in began)}. "
        f"Last good checkpoint: {last_checkpoint(trainer)}. "
        "Look at these images, or go on from there with a lower trainer.gradient_clip_val, such as "
        "1, or start a new run with a lower optimizer.lr."
    )


def _names(trainer: Trainer, seen: _Seen, index: Tensor | None) -> str:
    if index is None:
        return "images without an index"
    loader = trainer.val_dataloaders if "validation" in seen.place else trainer.train_dataloader
    dataset, task = getattr(loader, "dataset", None), ""
    if seen.task is not None and isinstance(dataset, ConcatDataset):
        dataset = dataset.datasets[seen.task]  # the index is within the task
        task = f" of task {seen.task + 1}"
    names = [image_name(dataset, i) for i in index[:_NAMED].tolist()]
    more = len(index) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "") + task
