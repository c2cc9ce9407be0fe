"""Access to private state of Lightning's training loop that callbacks must read or change."""

from typing import Any

from lightning.fabric.utilities.apply_func import convert_tensors_to_scalars
from lightning.pytorch import Trainer

from saliency_vae.runtime.loggers import MetricsCSV


def is_stopping(trainer: Trainer) -> bool:
    """Whether the training ends after this batch: at ``max_steps``, ``max_time``, or early."""
    return bool(trainer.should_stop and trainer.fit_loop._can_stop_early)


def was_last_epoch(trainer: Trainer) -> bool:
    """Whether the ending epoch is the last of ``max_epochs``."""
    return trainer.fit_loop.epoch_progress.current.ready == trainer.max_epochs


def is_epoch_over(trainer: Trainer) -> bool:
    """Whether no batch of the epoch is left."""
    return bool(trainer.fit_loop.epoch_loop._num_ready_batches_reached())


def validates_within(trainer: Trainer) -> bool:
    """Whether a validation follows the batch for a reason other than the end of training."""
    stops, trainer.should_stop = trainer.should_stop, False
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    validates = trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
    trainer.should_stop = stops
    return bool(validates)


def validate(trainer: Trainer) -> None:
    """Run a validation as within an epoch, logged under the number of the last step."""
    epoch_loop = trainer.fit_loop.epoch_loop
    batches, stepped = epoch_loop.batch_progress, epoch_loop._batches_that_stepped
    if batches.total.completed < batches.total.ready:  # loaded from within the last batch
        batches.increment_completed()
    epoch_loop._batches_that_stepped = trainer.global_step - 1
    epoch_loop.val_loop.restarting = False
    trainer.validating = True
    epoch_loop.val_loop.run()
    trainer.training = True
    epoch_loop._batches_that_stepped = stepped


def count_batches_of(checkpoint: dict[str, Any], accumulate: int) -> None:
    """Adapt a checkpoint's batch counts to a run that takes another number of batches per step.

    The images of a step stay the same, but with less memory they are split into more batches.
    Otherwise Lightning would resume at the old number of batches, and so at other images.

    Args:
        checkpoint: Checkpoint that is being loaded, written at the end of a step.
        accumulate: Batches per step from now on.
    """
    before = checkpoint.get("accumulate_grad_batches", accumulate)  # unknown before version 0.2.0
    counted = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (counted["total"], counted["current"]):
        more = counts["ready"] * accumulate // before - counts["ready"]
        # The batch after which it was written is ready but not completed, and must stay so.
        counts.update({name: number + more for name, number in counts.items()})


def number_logged_steps(trainer: Trainer) -> None:
    """Log the next step under its own number, wherever the run was resumed."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def log_step(trainer: Trainer) -> None:
    """Write a step's metrics to ``metrics.csv`` before its checkpoint is written.

    Lightning logs after the checkpoint, so a run killed in between and resumed would lack the row.
    """
    connector = trainer._logger_connector
    measured = connector.metrics["log"]
    if not (measured and connector.should_update_logs):
        return
    row = convert_tensors_to_scalars(measured) | {"epoch": trainer.current_epoch}
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCSV):
            logger.log_metrics(row, trainer.fit_loop.epoch_loop._batches_that_stepped)


def leave_unlogged_step(trainer: Trainer) -> None:
    """Keep Lightning from logging an earlier step's metrics under the step where it stops."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning
    if trainer.global_step % every:
        results = trainer._results
        assert results is not None
        results.reset()
