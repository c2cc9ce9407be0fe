"""Images a second: those of the training alone, wherever a validation comes."""

import csv
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from saliency_vae.runtime.loggers import MetricsCSV
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.image_rate import ImageRate
from tests.conftest import BlobsData, MakeModule, make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")


class Clock(Callback):
    """A clock that runs while batches are computed: a second in training, 50 in validation."""

    now = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        self.now += 1

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self.now += 50


@pytest.mark.parametrize("interval", [None, 1, 3])
def test_a_validation_within_an_epoch_is_of_no_account(
    interval: int | None,
    make_module: MakeModule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    trainer = make_trainer(
        tmp_path,
        [clock, ImageRate(2), RunCheckpoints(str(tmp_path), every_n_steps=9)],
        logger=MetricsCSV(str(tmp_path / "metrics.csv")),
        max_epochs=2,
        log_every_n_steps=1,
        val_check_interval=interval,
    )
    trainer.fit(make_module(), datamodule=BlobsData())
    rates: dict[str, list[float]] = {}
    with (tmp_path / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for part in ("train", "val"):
                if row[f"{part}/images_per_second"]:
                    rates.setdefault(part, []).append(float(row[f"{part}/images_per_second"]))
    assert set(rates["train"]) == {8.0}  # the images of a batch, each a second
    assert rates["val"] == pytest.approx([16 / 100] * len(rates["val"]))


def test_no_batches_between_two_rates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"callbacks\.image_rate\.every_n_batches >= 1\. Found 0"):
        ImageRate(0)
