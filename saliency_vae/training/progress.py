"""Log lines on the progress of a training, for where no terminal shows a progress bar."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from saliency_vae.data import Batch
from saliency_vae.training.checkpoints import last_step

log = logging.getLogger(__name__)


class ProgressLines(Callback):
    """Logs a line at intervals, and one after each validation, unless there is a terminal.

    A line gives the step, the epoch, the batch's loss, the images per second over all devices since
    the previous line, and the remaining time at the average rate since the start.

    Args:
        every_n_seconds: Seconds between two lines.
    """

    def __init__(self, every_n_seconds: float = 30.0) -> None:
        self.every_n_seconds = every_n_seconds
        self.is_shown = not sys.stdout.isatty()  # where the bar would be
        self._started = self._said = 0.0
        self._first_step = self._images = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what is trained, and start the clocks."""
        if self._is_said_by(trainer):
            size = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
            log.info(f"Training {size:,} parameters for {last_step(trainer)} steps")
        self._started = self._said = time.monotonic()
        self._first_step, self._images = trainer.global_step, 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Log a line if it is time for one."""
        self._images += len(batch["image"]) * trainer.world_size
        now = time.monotonic()
        if not self._is_said_by(trainer) or now - self._said < self.every_n_seconds:
            return
        rate = self._images / (now - self._said)
        done = f"Step {trainer.global_step} of {last_step(trainer)} (epoch {trainer.current_epoch})"
        loss, left = outputs["loss"].item(), self._left(trainer, now)
        log.info(f"{done}: loss {loss:.4f}, {rate:.1f} images/s, {left} left")
        self._said, self._images = now, 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the validation loss."""
        if self._is_said_by(trainer) and not trainer.sanity_checking:
            loss = float(trainer.callback_metrics["val/loss"])
            log.info(f"Validation after step {trainer.global_step}: loss {loss:.4f}")

    def _is_said_by(self, trainer: Trainer) -> bool:
        return self.is_shown and trainer.is_global_zero

    def _left(self, trainer: Trainer, now: float) -> timedelta:
        steps = max(trainer.global_step - self._first_step, 1)
        left = (last_step(trainer) - trainer.global_step) * (now - self._started) / steps
        return timedelta(seconds=round(left))
