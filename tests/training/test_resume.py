"""The checkpoint that a run is resumed from."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.resume import checkpoint_path
from tests.conftest import Blobs, MakeModule, make_trainer


def test_no_checkpoint_asked_for(tmp_path: Path) -> None:
    assert checkpoint_path(None, tmp_path) is None


def test_the_runs_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/last.ckpt"
    path.parent.mkdir()
    path.touch()
    assert checkpoint_path("last", tmp_path) == path


def test_a_checkpoint_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.touch()
    assert checkpoint_path(str(path), tmp_path / "run") == path


def test_a_missing_last_checkpoint_says_how_to_name_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ckpt_path=last") as error:
        checkpoint_path("last", tmp_path)
    assert str(tmp_path / "checkpoints/last.ckpt") in str(error.value)
    assert "hydra.run.dir" in str(error.value)


def test_a_missing_file_or_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.ckpt", tmp_path):
        with pytest.raises(ValueError, match=f"Not found: {path}") as error:
            checkpoint_path(str(path), tmp_path)
        assert "hydra.run.dir" not in str(error.value)


# ---- the data of a run that goes on


class Data(SaliencyDataModule):
    """Images of which a step of eight leaves some over."""

    def __init__(self, images: int = 28, batch_size: int = 8, seed: int = 0) -> None:
        super().__init__(batch_size=batch_size, num_workers=0, seed=seed)
        self.train_set, self.val_set = Blobs(images, seed=1), Blobs(8, seed=2)


class Steps(Callback):
    """Notes the images of each step, in order of their numbers."""

    def __init__(self) -> None:
        self.images: list[list[int]] = []
        self._open: list[int] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._open += batch["index"].tolist()
        if not trainer.fit_loop._should_accumulate():
            self.images.append(sorted(self._open))
            self._open = []


def train(
    run: Path, make_module: MakeModule, data: SaliencyDataModule, **trainer: Any
) -> list[list[int]]:
    """Train, from the last checkpoint if there is one; returns the images of each step."""
    steps, last = Steps(), run / "last.ckpt"
    rising_and_falling = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-2)
    scheduler = None if trainer.pop("constant", False) else rising_and_falling
    arguments: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": 0} | trainer
    callbacks = [steps, RunCheckpoints(str(run), every_n_steps=1)]
    made = make_trainer(run, callbacks, **arguments)
    module = make_module(scheduler=scheduler)
    made.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
    return steps.images


@pytest.mark.usefixtures("one_thread")
def test_a_run_goes_on_with_half_the_images_at_once_and_the_same_steps(
    tmp_path: Path, make_module: MakeModule
) -> None:
    whole = train(tmp_path / "whole", make_module, Data())
    assert [len(step) for step in whole] == [8] * 6
    halved = train(tmp_path / "halved", make_module, Data(), accumulate_grad_batches=2)
    assert halved == whole
    first = train(tmp_path / "run", make_module, Data(), max_steps=2)
    resumed = train(tmp_path / "run", make_module, Data(), accumulate_grad_batches=2)
    assert first + resumed == whole


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("change", "then", "now"),
    [
        ({"batch_size": 4}, "data.batch_size=8", "data.batch_size=4"),
        ({"seed": 3}, "data.seed=0", "data.seed=3"),
        ({"images": 31}, "training images=28", "training images=31"),
    ],
)
def test_other_images_within_an_epoch_are_refused(
    change: dict[str, int], then: str, now: str, tmp_path: Path, make_module: MakeModule
) -> None:
    train(tmp_path, make_module, Data(), max_steps=2, constant=True)
    with pytest.raises(
        ValueError, match=rf"within its epoch with its data, {then}\. Found {now}, "
    ):
        train(tmp_path, make_module, Data(**change), constant=True)


@pytest.mark.usefixtures("one_thread")
def test_other_images_after_an_epoch_are_logged(
    tmp_path: Path, make_module: MakeModule, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, make_module, Data(), max_epochs=1, constant=True)
    with caplog.at_level(logging.WARNING, logger="saliency_vae.training.resume"):
        seen = train(tmp_path, make_module, Data(images=16), constant=True)
    assert [len(step) for step in seen] == [8, 8]
    assert "goes on with other data: training images=16, after training images=28" in caplog.text


@pytest.mark.usefixtures("one_thread")
def test_a_checkpoint_that_tells_no_data_is_resumed(
    tmp_path: Path, make_module: MakeModule
) -> None:
    train(tmp_path, make_module, Data(), max_steps=2, constant=True)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint.pop("data")["training images"] == 28
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert train(tmp_path, make_module, Data(images=32), max_epochs=1, constant=True)
