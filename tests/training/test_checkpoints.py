"""When processes exchange whether to stop, and which checkpoint a run names."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from saliency_vae.training.checkpoints import RunCheckpoints, last_checkpoint
from tests.conftest import BlobsData, MakeModule, make_trainer

STEPS = 16  # of an epoch


class CountingCheckpoints(RunCheckpoints):
    """Notes at which training steps it exchanges with other processes, and saves."""

    def __init__(self, directory: Path, every_n_steps: int) -> None:
        super().__init__(str(directory), every_n_steps)
        self.exchanges: list[int] = []
        self.exchanges_in_validation = 0
        self.saved: list[int] = []

    def _is_stopped(self, trainer: Trainer) -> bool:
        if not trainer.validating and trainer.global_step < STEPS:
            self.exchanges.append(trainer.global_step)
        self.exchanges_in_validation += trainer.validating
        return super()._is_stopped(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.saved.append(trainer.global_step)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)


@pytest.mark.parametrize(
    ("processes", "every_n_steps", "exchanges"),
    [
        (1, 100, list(range(1, STEPS))),
        (2, 100, [10, STEPS - 1]),  # and where it saves, before the validation
        (2, 6, [6, 10, 12, STEPS - 1]),
    ],
)
def test_several_processes_exchange_seldom(
    make_module: MakeModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
    every_n_steps: int,
    exchanges: list[int],
) -> None:
    monkeypatch.setattr(Trainer, "world_size", processes)  # this one sees its share of the images
    checkpoints = CountingCheckpoints(tmp_path, every_n_steps)
    trainer = make_trainer(tmp_path, [checkpoints], max_epochs=1, num_sanity_val_steps=0)
    assert last_checkpoint(trainer) == "none yet"
    trainer.fit(make_module(), datamodule=BlobsData(batch_size=2))
    assert checkpoints.exchanges == exchanges
    batches = sum(trainer.num_val_batches)
    assert batches > 1
    assert checkpoints.exchanges_in_validation == (batches if processes == 1 else -(-batches // 10))
    assert set(checkpoints.saved) == {*range(every_n_steps, STEPS, every_n_steps), 15, 16}
    assert last_checkpoint(trainer) == f"{tmp_path}/last.ckpt (step 16)"
