"""Checkpoints from which a run resumes as if it had never stopped."""

import io
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.runtime.further_loggers import TensorBoardCurves
from saliency_vae.runtime.loggers import MetricsCSV
from saliency_vae.training import loop
from saliency_vae.training.resume import check_data, recorded_data
from saliency_vae.training.stop_signals import StopSignals

log = logging.getLogger(__name__)

_RUN_ID = "run_id.txt"  # id of the run last started in a checkpoint directory
_EXCHANGE_EVERY = 10  # steps, or validation batches, between synchronisations of processes


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final place, and then moves it there.

    Lightning writes to ``$TMPDIR`` first. From another file system that move is a copy, which
    leaves half a checkpoint if it is killed.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write the checkpoint whole or not at all.

        Raises:
            OSError: If it cannot be written; an earlier one at ``path`` stays as it was.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_whole(Path(path), buffer.getbuffer())  # no second copy in memory


class RunCheckpoints(Checkpoint):
    """Keeps ``last.ckpt``, to resume from, and ``best.ckpt``, of the lowest validation loss.

    A killed run, resumed from ``last.ckpt``, repeats at most ``every_n_steps`` steps and ends with
    the same weights, bit for bit on a CPU. At SIGTERM or the first Ctrl-C, the current step is
    finished and saved. A validation is aborted; the resumed run repeats it and the step before it.
    Several processes stop together: every ten steps or validation batches they check whether one of
    them has received a signal.

    However a training ends, its last step is validated, so that ``best.ckpt`` is the best of the
    whole training. A run that ended within an epoch (``max_steps``, ``max_time``) resumes within
    that epoch.

    ``last.ckpt`` is written when ``every_n_steps`` steps have passed since the last time, one step
    before each validation, at the end of each epoch, at the end of training, and at a signal. It is
    never written between a step and its validation, which Lightning would skip when resumed. A
    step's metrics are in ``metrics.csv`` before its checkpoint is written.

    Each run has an id, which is stored in its checkpoints and kept when it resumes. A run started
    in another run's directory does not use or delete that run's checkpoints; it only overwrites
    those of the same name when it writes its own.

    Args:
        directory: Directory of the checkpoints.
        every_n_steps: Optimizer steps between two writes of ``last.ckpt``.
        overrides: Command-line settings of the run, stored in the checkpoints for resuming.

    Attributes:
        run_id: Id of the run; empty for a run of an earlier version.
        max_steps: Number of steps at which the training ends; -1 for no such limit.
        lowest_loss: Validation loss of ``best.ckpt``; infinite before the first validation.
        saved_step: Number of steps made when ``last.ckpt`` was written.
        validated_step: Number of steps made at the last validation.

    Raises:
        ValueError: If every_n_steps is not positive.
    """

    def __init__(self, directory: str, every_n_steps: int, overrides: Sequence[str] = ()) -> None:
        if every_n_steps < 1:
            raise ValueError(f"Expected checkpoint_every_n_steps >= 1. Found {every_n_steps}.")
        self.last = Path(directory) / "last.ckpt"
        self.best = Path(directory) / "best.ckpt"
        self.every_n_steps = every_n_steps
        self.overrides = list(overrides)
        self.run_id = uuid4().hex
        self.max_steps = -1
        self.lowest_loss = math.inf
        self.saved_step = 0
        self.validated_step = 0
        self._signals = StopSignals()
        self._stops = False

    def state_dict(self) -> dict[str, Any]:
        """Return the last validated step."""
        return {"validated_step": self.validated_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the last validated step; checkpoints before version 0.2.0 do not record it."""
        self.validated_step = state_dict.get("validated_step", 0)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the run's id, its settings, the batches per step and the data."""
        checkpoint["run_id"] = self.run_id
        checkpoint["overrides"] = self.overrides
        checkpoint["accumulate_grad_batches"] = trainer.accumulate_grad_batches
        checkpoint["data"] = recorded_data(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the data, restore the run, and take the lowest loss from ``best.ckpt``."""
        self.run_id = checkpoint.get("run_id", "")
        check_data(checkpoint, recorded_data(trainer))
        loop.count_batches_of(checkpoint, trainer.accumulate_grad_batches)
        self.saved_step = checkpoint["global_step"]
        self._start_metrics(trainer, self.saved_step)
        self.lowest_loss = trainer.strategy.broadcast(_loss_of(self.best, self.run_id))
        other = self._started() not in (None, self.run_id)
        if other and str(trainer.ckpt_path) == str(self.last) and trainer.is_global_zero:
            log.warning(
                f"{self.last} is of an earlier run, which goes on: the run that was started in its "
                "directory after it left no checkpoint."
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write checkpoints whole; if epochs are limited, plan for all, not for ``max_steps``."""
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if stage != "fit":
            return
        self._start_metrics(trainer, 0)
        if trainer.max_epochs != -1:
            self._take_max_steps(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over ``max_steps`` from Lightning, and write this run's id to the directory."""
        self._take_max_steps(trainer)
        if trainer.is_global_zero:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            (self.last.parent / _RUN_ID).write_text(self.run_id)

    def _started(self) -> str | None:
        """Id of the run that was last started in this directory; None if none was."""
        path = self.last.parent / _RUN_ID
        return path.read_text() if path.is_file() else None

    @staticmethod
    def _start_metrics(trainer: Trainer, step: int) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV | TensorBoardCurves):
                logger.start(step)

    def _take_max_steps(self, trainer: Trainer) -> None:
        """Hide ``max_steps`` from Lightning, which would count the epoch it ends in as whole."""
        epoch_loop = trainer.fit_loop.epoch_loop
        if epoch_loop.max_steps != -1:
            self.max_steps, epoch_loop.max_steps = epoch_loop.max_steps, -1

    def _stop_at_max_steps(self, trainer: Trainer) -> None:
        if self.max_steps != -1 and trainer.global_step >= self.max_steps:
            trainer.should_stop = True

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals."""
        self._signals.listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals; log the test in the row after those of the steps."""
        self._signals.listen()
        loop.number_logged_steps(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen for signals, for a validation outside training."""
        self._signals.listen()

    @staticmethod
    def _exchanges(trainer: Trainer, count: int) -> bool:
        """Whether to synchronise now, which waits for all processes and the device."""
        return trainer.world_size == 1 or count % _EXCHANGE_EVERY == 0

    def _is_stopped(self, trainer: Trainer) -> bool:
        """Whether any process of the run has received a signal; all processes must call this."""
        received = self._signals.received is not None or trainer.received_sigterm
        return trainer.strategy.reduce_boolean_decision(received, all=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step at which the run starts; stop if that is the last one."""
        self._signals.listen()  # a resumed run has no sanity check
        self.saved_step = trainer.global_step
        self._stop_at_max_steps(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save ``last.ckpt`` if a step was made and a save is due."""
        self._stop_at_max_steps(trainer)
        if trainer.should_stop:
            loop.leave_unlogged_step(trainer)
        if loop.validates_within(trainer) or not self._can_save(trainer):
            return
        next_step_ends = batch_idx + 1 + trainer.accumulate_grad_batches
        validates_next = next_step_ends % (trainer.val_check_batch or math.inf) == 0
        is_due = trainer.global_step - self.saved_step >= self.every_n_steps
        saves = validates_next or is_due or loop.is_stopping(trainer)
        if saves or self._exchanges(trainer, trainer.global_step):
            self._stops = self._is_stopped(trainer)
        if saves or self._stops:
            loop.log_step(trainer)
            self._save(trainer, self.last)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Stop after a step that was saved at a signal; only now have all loggers received it.

        Raises:
            Stopped: If a signal was received.
        """
        loop.number_logged_steps(trainer)
        if self._stops:
            self._signals.stop()

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Abort a validation at a signal, as it cannot be resumed halfway.

        Raises:
            Stopped: If a signal was received.
        """
        if self._exchanges(trainer, batch_idx) and self._is_stopped(trainer):
            self._signals.stop()

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Abort a test at a signal.

        Raises:
            Stopped: If a signal was received.
        """
        self.on_validation_batch_start(trainer, pl_module, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the validation loss is the lowest so far."""
        if trainer.sanity_checking:
            return
        self.validated_step = trainer.global_step
        loss = float(trainer.callback_metrics["val/loss"])
        if loss < self.lowest_loss:
            self.lowest_loss = loss
            self._save(trainer, self.best)
        if self._can_save(trainer):
            self._save(trainer, self.last)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of an epoch, after its validation.

        Raises:
            Stopped: If a signal was received.
        """
        if loop.is_stopping(trainer) or loop.was_last_epoch(trainer):
            self._validate_last_step(trainer)
        if loop.is_epoch_over(trainer):  # else a resumed run would skip the rest of the epoch
            self._save(trainer, self.last)
        if self._is_stopped(trainer):
            self._signals.stop()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate if nothing was left to train, as after a kill during the last validation."""
        self._validate_last_step(trainer)

    def _validate_last_step(self, trainer: Trainer) -> None:
        if self.validated_step != trainer.global_step:
            loop.validate(trainer)

    def _can_save(self, trainer: Trainer) -> bool:
        """Whether a new step can be saved: no gradients accumulating, not an epoch's last batch."""
        return not (
            trainer.global_step == self.saved_step
            or trainer.fit_loop._should_accumulate()
            or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        )

    def _save(self, trainer: Trainer, path: Path) -> None:
        trainer.save_checkpoint(path, weights_only=False)  # the whole state
        if path == self.last:
            self.saved_step = trainer.global_step


def run_checkpoints(trainer: Trainer) -> RunCheckpoints | None:
    """Find the :class:`RunCheckpoints` callback of a trainer; None if it has none."""
    found = (one for one in trainer.checkpoint_callbacks if isinstance(one, RunCheckpoints))
    return next(found, None)


def planned_steps(trainer: Trainer) -> int:
    """Number of steps for which a training is planned: all epochs, or else ``max_steps``.

    If both are set, ``max_steps`` only says where to stop. When resumed, such a run ends like one
    that never stopped.

    Raises:
        ValueError: If there is no limit over which learning rate and temperature can fall.
    """
    steps = trainer.estimated_stepping_batches
    checkpoints = run_checkpoints(trainer)
    if math.isinf(steps):
        steps = -1 if checkpoints is None else checkpoints.max_steps
        if steps == -1:
            raise ValueError(
                "Expected a trainer with max_epochs or max_steps, over which the learning rate and "
                "the temperature fall. Found neither: give one beside max_time."
            )
    return int(steps)


def last_step(trainer: Trainer) -> int:
    """Number of steps at which a training ends."""
    planned, checkpoints = planned_steps(trainer), run_checkpoints(trainer)
    stops = checkpoints is not None and checkpoints.max_steps != -1
    return min(planned, checkpoints.max_steps) if checkpoints and stops else planned


def last_checkpoint(trainer: Trainer) -> str:
    """Name the checkpoint that a run can be resumed from."""
    checkpoints = run_checkpoints(trainer)
    if checkpoints is None or not checkpoints.last.is_file():
        return "none yet"
    return f"{checkpoints.last} (step {checkpoints.saved_step})"


def _loss_of(best: Path, run_id: str) -> float:
    """Validation loss of the best checkpoint of a run; infinite if there is none of this run."""
    if not best.is_file():
        return math.inf
    found = torch.load(best, map_location="cpu", weights_only=True)
    return float(found["metrics"]["val/loss"]) if found.get("run_id", "") == run_id else math.inf
