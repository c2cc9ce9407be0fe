"""However a training ends: its last step is validated, and resumed it goes on where it was."""

import csv
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from saliency_vae.objective import Objective
from saliency_vae.perturbations import Noise
from saliency_vae.runtime.loggers import MetricsCSV
from saliency_vae.topk import SoftTopK
from saliency_vae.training.checkpoints import RunCheckpoints, last_step, planned_steps
from saliency_vae.training.finite_check import StopAtNonFinite
from saliency_vae.training.module import VariationalSaliency
from tests.commands.test_train import TINY, error_of, run_here, tiny
from tests.conftest import BlobsData, MakeModule, make_trainer
from tests.faults.small_run import contents, differences

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 4  # of an epoch


class Watch(Callback):
    """Notes the images of each training step, and the steps after which is validated."""

    def __init__(self) -> None:
        self.trained: list[tuple[int, list[int]]] = []
        self.validated: list[int] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.trained.append((trainer.current_epoch, batch["index"].tolist()))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.global_step)


class StopAt(Callback):
    """Ends the training after a step, as a time limit does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == self.step


@pytest.fixture
def module(make_module: MakeModule) -> Any:
    """Make a module with all that depends on the length of a training."""
    return partial(
        make_module,
        objective=Objective(SoftTopK((0.1, 0.3), 0.1, initial_temperature=0.5), Noise(), 0.01),
        scheduler=partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-2),
    )


def fit(run: Path, module: VariationalSaliency, *callbacks: Callback, **trainer: Any) -> Watch:
    """Train, from the last checkpoint if there is one."""
    watch, last = Watch(), run / "last.ckpt"
    arguments: dict[str, Any] = {"max_epochs": 3, "num_sanity_val_steps": 0} | trainer
    made = make_trainer(
        run,
        [watch, StopAtNonFinite(), *callbacks, RunCheckpoints(str(run), every_n_steps=100)],
        logger=MetricsCSV(str(run / "metrics.csv")),
        **arguments,
    )
    made.fit(module, datamodule=BlobsData(), ckpt_path=last if last.exists() else None)
    return watch


def steps(run: Path, column: str) -> list[int]:
    """Steps of ``metrics.csv`` at which something is logged."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["step"] for row in rows}) == len(rows)  # each once
    return [int(row["step"]) for row in rows if row[column]]


@pytest.mark.parametrize(
    ("trainer", "stop", "validated"),
    [
        ({"max_steps": 2}, None, [2]),
        ({"max_steps": 4}, None, [4]),
        ({"max_steps": 6}, None, [4, 6]),
        ({"max_steps": 6, "max_epochs": -1}, None, [4, 6]),
        ({"max_steps": 3, "val_check_interval": 2}, None, [2, 3]),
        ({"max_steps": 4, "val_check_interval": 2}, None, [2, 4]),
        ({"max_steps": 2, "accumulate_grad_batches": 2}, None, [2]),
        ({"max_steps": 5, "accumulate_grad_batches": 2}, None, [4, 5]),
        ({"max_epochs": 3, "check_val_every_n_epoch": 2}, None, [8, 12]),
        ({"max_epochs": 1, "check_val_every_n_epoch": 2}, None, [4]),
        ({"max_steps": 2, "check_val_every_n_epoch": 2}, None, [2]),
        ({"limit_train_batches": 3, "max_epochs": 2}, None, [3, 6]),
        ({"limit_train_batches": 3, "max_steps": 4}, None, [3, 4]),
        ({"limit_val_batches": 1, "max_steps": 2}, None, [2]),
        ({"overfit_batches": 1, "max_epochs": 2}, None, [1, 2]),
        ({"overfit_batches": 0.5, "max_steps": 3}, None, [2, 3]),
        ({}, 5, [4, 5]),
        ({}, 8, [4, 8]),
        ({"accumulate_grad_batches": 2}, 3, [3]),
    ],
)
def test_the_last_step_is_validated_once(
    trainer: dict[str, Any], stop: int | None, validated: list[int], module: Any, tmp_path: Path
) -> None:
    callbacks = [] if stop is None else [StopAt(stop)]
    assert fit(tmp_path, module(), *callbacks, **trainer).validated == validated
    assert steps(tmp_path, "val/loss") == [step - 1 for step in validated]
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] in validated
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] <= validated[-1]


def test_the_best_is_the_last_where_that_is_best(module: Any, tmp_path: Path) -> None:
    fit(tmp_path, module(), max_steps=6)
    before = torch.load(tmp_path / "best.ckpt", weights_only=True)
    fit(tmp_path, module(), max_steps=7)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == 7
    assert best["metrics"]["val/loss"] < before["metrics"]["val/loss"]


def test_a_time_limit_validates_what_was_trained(module: Any, tmp_path: Path) -> None:
    limit = Timer(timedelta(milliseconds=1))
    assert fit(tmp_path, module(), limit).validated == [1]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 1
    again = fit(tmp_path, module(), Timer(timedelta(hours=1)))
    assert again.validated == [4, 8, 12]


@pytest.mark.parametrize(
    "parts",
    [
        [{"max_steps": 2}, {"max_steps": 6}],
        [{"max_steps": 2}, {"max_steps": 5}, {}],
        [{"max_steps": 4}, {}],
        [{"stop": 4}, {"max_steps": 6}],
        [{"stop": 6}, {"max_steps": 10}],
        [{"stop": 3, "accumulate_grad_batches": 2}, {"accumulate_grad_batches": 2}],
        [{"max_steps": 3, "val_check_interval": 2}, {"max_steps": 7, "val_check_interval": 2}],
        [{"max_steps": 2, "max_epochs": -1}, {"max_steps": 6, "max_epochs": -1}],
    ],
)
def test_a_run_in_parts_is_the_run_at_once(
    parts: list[dict[str, Any]], make_module: MakeModule, module: Any, tmp_path: Path
) -> None:
    """Weights, optimizer, schedule, temperature, images, epochs: all is the same, bit for bit."""
    make = make_module if "max_epochs" in parts[-1] else module  # else max_steps is the plan
    whole = fit(tmp_path / "whole", make(), **parts[-1])
    run, trained = tmp_path / "parts", []
    for part in parts:
        stop = [StopAt(part.pop("stop"))] if "stop" in part else []
        watch = fit(run, make(), *stop, **part)
        trained += watch.trained
    assert trained == whole.trained
    assert watch.validated[-1:] == whole.validated[-1:]
    found = [contents(tmp_path / name)["last.ckpt"] for name in ("whole", "parts")]
    assert differences(*found) == ([] if make is module else ["/annealed_steps"])
    assert steps(tmp_path / "whole", "train/loss") == steps(run, "train/loss")


def test_without_a_limit_of_epochs_max_steps_is_the_plan(module: Any, tmp_path: Path) -> None:
    plans: list[tuple[int, int]] = []

    class Plan(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            plans.append((planned_steps(trainer), last_step(trainer)))

    fit(tmp_path / "a", module(), Plan(), max_epochs=-1, max_steps=5)
    fit(tmp_path / "b", module(), Plan(), max_epochs=2, max_steps=5)
    fit(tmp_path / "c", module(), Plan(), max_epochs=1)
    assert plans == [(5, 5), (8, 5), (4, 4)]


def test_a_longer_run_keeps_the_temperature_that_was_reached(
    make_module: MakeModule, tmp_path: Path
) -> None:
    objective = Objective(SoftTopK((0.1, 0.3), 0.1, initial_temperature=0.5), Noise(), 0.01)
    fit(tmp_path, make_module(objective=objective), max_epochs=1)
    longer = make_module(objective=objective)
    fit(tmp_path, longer, max_epochs=3)
    assert longer._annealed_steps == STEPS


def test_a_better_validation_at_a_stop_is_kept(module: Any, tmp_path: Path) -> None:
    fit(tmp_path, module(), max_steps=2)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    best["metrics"]["val/loss"] = -1e9  # lower than any that follows
    torch.save(best, tmp_path / "best.ckpt")
    fit(tmp_path, module())
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 2


class KillAt(Callback):
    """Ends the process, as far as the training can tell, before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def test_a_run_in_a_used_directory_has_a_best_of_its_own(module: Any, tmp_path: Path) -> None:
    fit(tmp_path, module())
    of_first = torch.load(tmp_path / "best.ckpt", weights_only=True)
    (tmp_path / "last.ckpt").unlink()  # so that the next run is a new one
    slow = partial(torch.optim.Adam, lr=1e-6)
    scheduler = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-6)
    second = partial(module, optimizer=slow, scheduler=scheduler)
    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path, second(), KillAt(STEPS - 1))  # it has a checkpoint, but no validation yet
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["run_id"] == of_first["run_id"]
    fit(tmp_path, second(), max_epochs=3)
    best, last = (torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert best["run_id"] == last["run_id"] != of_first["run_id"]
    assert best["metrics"]["val/loss"] > of_first["metrics"]["val/loss"]


def test_to_go_on_with_the_run_before_the_last_one_is_said(
    module: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, module(), max_steps=2)
    fit(tmp_path, module(), max_steps=3)
    assert "earlier run" not in caplog.text  # the same run
    checkpoints = [RunCheckpoints(str(tmp_path), every_n_steps=100), KillAt(0)]
    fresh = make_trainer(tmp_path, checkpoints, max_epochs=3, num_sanity_val_steps=0)
    with pytest.raises(RuntimeError, match="killed"):
        fresh.fit(module(), datamodule=BlobsData())
    fit(tmp_path, module(), max_steps=4)
    (said,) = [record.message for record in caplog.records if "earlier run" in record.message]
    assert said.startswith(f"{tmp_path / 'last.ckpt'} is of an earlier run")
    caplog.clear()
    fit(tmp_path, module(), max_steps=5)
    assert "earlier run" not in caplog.text


def test_overfitting_repeats_the_first_batches(module: Any, tmp_path: Path) -> None:
    watch = fit(tmp_path, module(), overfit_batches=2, max_epochs=2)
    first, second = list(range(8)), list(range(8, 16))
    assert [images for _, images in watch.trained] == [first, second] * 2


@pytest.mark.usefixtures("plain_panels")
def test_the_command_trains_in_parts_and_always_leaves_an_explainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [*tiny(tmp_path), "logger=csv"]

    def train(name: str, *further: str) -> Path:
        run_here(monkeypatch, *further, f"hydra.run.dir={tmp_path}/{name}")
        return tmp_path / name

    def explainer(run: Path) -> bytes:
        return (run / "explainer/model.safetensors").read_bytes()

    parts = train("parts", *settings, "trainer.max_steps=2")  # of 4 in an epoch
    first = explainer(parts)
    train("parts", "ckpt_path=last", "trainer.max_steps=6")
    whole = train("whole", *settings, "trainer.max_steps=6")
    assert explainer(parts) == explainer(whole) != first
    ends = [contents(run / "checkpoints")["last.ckpt"] for run in (parts, whole)]
    assert set(differences(*ends)) == {"/overrides", "/metrics/val/images_per_second"}
    assert steps(parts, "val/loss") == [1, 3, 5]
    assert steps(whole, "val/loss") == [3, 5]

    # In another directory, and with nothing left to train, there is still something to validate.
    of_parts = [f"ckpt_path={parts}/checkpoints/last.ckpt", "trainer.max_steps=6"]
    assert explainer(train("elsewhere", *settings, *of_parts)) == explainer(whole)


def test_a_run_without_checkpoints_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [*TINY, "logger=csv", "callbacks.checkpoints=null", f"hydra.run.dir={tmp_path}"]
    assert "Expected callbacks.checkpoints" in error_of(monkeypatch, *refused)
