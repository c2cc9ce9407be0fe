"""Checkpoints from which a run goes on as if nothing had stopped it."""

import io
import math
import signal
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from saliency_vae.classifiers import ClassifierIdentity
from saliency_vae.models import BEFORE_NAMES, ExplainerConfig
from saliency_vae.runtime.atomic_file import write_whole

_EXCHANGE_EVERY = 10  # steps, or batches of a validation, between two exchanges of processes


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and then moves it there.

    Lightning's own writes to ``$TMPDIR`` first. From another file system such a move is a copy, and
    a copy that is killed leaves half a checkpoint.
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
    the same weights, bit for bit on a CPU. At SIGTERM a step is finished and saved; a validation is
    broken off, to be repeated from the step before it. Several processes stop together: they
    exchange whether one has received SIGTERM every ten steps, or batches of a validation.

    ``last.ckpt`` is written after ``every_n_steps`` steps without one, one step before each
    validation, at the end of each epoch, and at SIGTERM. It is never written between a step and the
    validation that follows it: Lightning, resumed there, would leave that validation out.

    Args:
        directory: Directory of the checkpoints.
        every_n_steps: Optimizer steps between two writings of ``last.ckpt``.
        overrides: Settings of the run's command line; kept in the checkpoints, for resuming.

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
        self.lowest_loss = math.inf
        self.saved_step = 0
        self._sigterm = self._stops = False

    def state_dict(self) -> dict[str, Any]:
        """Remember the best so far."""
        return {"lowest_loss": self.lowest_loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best so far."""
        self.lowest_loss = state_dict["lowest_loss"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the settings that the run was accepted with."""
        checkpoint["overrides"] = self.overrides

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have all checkpoints written whole or not at all."""
        trainer.strategy.checkpoint_io = WholeCheckpointIO()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note SIGTERM in place of Lightning's handler, which communicates, and hangs in DDP."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note_sigterm)  # Lightning restores what was before

    def _note_sigterm(self, number: int, frame: FrameType | None) -> None:
        self._sigterm = True

    @staticmethod
    def _exchanges(trainer: Trainer, count: int) -> bool:
        """Whether it is time for an exchange, which waits for all processes and the device."""
        return trainer.world_size == 1 or count % _EXCHANGE_EVERY == 0

    def _is_stopped(self, trainer: Trainer) -> bool:
        """Whether any process of the run has received SIGTERM; all processes must call this."""
        return trainer.strategy.reduce_boolean_decision(self._sigterm, all=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step that the run starts at."""
        self.on_sanity_check_start(trainer, pl_module)  # a resumed run has no sanity check
        self.saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a step was made and it is time to."""
        fit = trainer.fit_loop
        assert fit._data_fetcher is not None
        validates_now = fit.epoch_loop._should_check_val_fx(fit._data_fetcher)
        if validates_now or not self._can_save(trainer):
            return
        next_step_ends = batch_idx + 1 + trainer.accumulate_grad_batches
        validates_next = next_step_ends % (trainer.val_check_batch or math.inf) == 0
        is_due = trainer.global_step - self.saved_step >= self.every_n_steps
        saves = validates_next or is_due
        if saves or self._exchanges(trainer, trainer.global_step):
            self._stops = self._is_stopped(trainer)
        if saves or self._stops:
            self._save(trainer, self.last)

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Stop after a step that was saved at SIGTERM: only now it is logged, too.

        Raises:
            SIGTERMException: If SIGTERM was received.
        """
        if self._stops:
            raise SIGTERMException

    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Break off a validation at SIGTERM: one cannot be resumed halfway.

        Raises:
            SIGTERMException: If it was received.
        """
        if self._exchanges(trainer, batch_idx) and self._is_stopped(trainer):
            raise SIGTERMException

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if the validation loss is the lowest so far."""
        if trainer.sanity_checking:
            return
        loss = float(trainer.callback_metrics["val/loss"])
        if loss < self.lowest_loss:
            self.lowest_loss = loss
            self._save(trainer, self.best)
        if self._can_save(trainer):
            self._save(trainer, self.last)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, after the validation.

        Raises:
            SIGTERMException: If SIGTERM was received.
        """
        if trainer.max_steps == -1:  # else Lightning, resumed here, would count the epoch twice
            self._save(trainer, self.last)
        if self._is_stopped(trainer):
            raise SIGTERMException

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of a run of ``max_steps``."""
        if trainer.global_step != self.saved_step:
            self._save(trainer, self.last)

    def _can_save(self, trainer: Trainer) -> bool:
        """Whether there is a new step, and neither an epoch nor accumulated gradients are open."""
        return not (
            trainer.global_step == self.saved_step
            or trainer.fit_loop._should_accumulate()
            or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        )

    def _save(self, trainer: Trainer, path: Path) -> None:
        trainer.save_checkpoint(path, weights_only=False)  # all of the state
        if path == self.last:
            self.saved_step = trainer.global_step


def last_checkpoint(trainer: Trainer) -> str:
    """Name the checkpoint that a run can be resumed from."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, RunCheckpoints) and callback.last.is_file():
            return f"{callback.last} (step {callback.saved_step})"
    return "none yet"


def check_resumable(
    checkpoint: Mapping[str, Any], found: ClassifierIdentity, settings: Mapping[str, Any]
) -> None:
    """Refuse a checkpoint made for another classifier, or with other settings of the explainer.

    Args:
        checkpoint: Checkpoint of this version or an earlier one.
        found: Identity of the run's classifier.
        settings: Settings of the run's explainer, as plain values.

    Raises:
        ValueError: If the classifier or a setting differs; names both.
    """
    expected = _identity_in(checkpoint)
    differing = found.differences(expected)
    if differing:
        raise ValueError(
            "Expected ckpt_path to be a checkpoint for this run's classifier "
            f"{found}. Found one for {expected}, another {', '.join(differing)}."
        )
    changed = dict(_changes(_settings_in(checkpoint), settings))
    if changed:
        then, now = (
            ", ".join(f"{name}={values[i]}" for name, values in changed.items()) for i in (0, 1)
        )
        raise ValueError(
            f"Expected a run that goes on with its explainer's settings, {then}. Found {now}."
        )


def _identity_in(checkpoint: Mapping[str, Any]) -> ClassifierIdentity:
    """Identity of the classifier that a checkpoint was made for."""
    recorded = checkpoint["classifier"]
    per_channel = {name: tuple(recorded[name]) for name in ("mean", "std")}
    return ClassifierIdentity(**recorded | per_channel)


def _settings_in(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the explainer in a checkpoint, as plain values; none if it recorded none."""
    recorded = checkpoint["explainer"]
    if not recorded:
        return {}
    plain = {"format": BEFORE_NAMES, **recorded}  # checkpoints held no format before names
    return ExplainerConfig.from_plain(plain, "the checkpoint").to_plain()


def _changes(then: Any, now: Any, name: str = "") -> Iterator[tuple[str, tuple[str, str]]]:
    """Settings that differ, each with what it was and what it is; a part by its name alone."""
    if isinstance(then, Mapping) and isinstance(now, Mapping) and _short(then) == _short(now):
        for key in dict.fromkeys([*then, *now]):
            yield from _changes(then.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif then != now:
        yield name, (_short(then), _short(now))


def _short(setting: Any) -> str:
    """Write a setting, or the name of a part, in a few words."""
    if isinstance(setting, Mapping):
        return str(setting.get("type", ""))
    return textwrap.shorten(str(setting), 60, placeholder="...")
