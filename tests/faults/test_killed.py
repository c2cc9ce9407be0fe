"""A run that is killed, at any moment, goes on as if it had not been."""

import os
import random
import re
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.commands.test_train import tiny
from tests.faults.command_run import run_train, run_train_on_terminal
from tests.faults.small_run import (
    SendSignal,
    Settings,
    contents,
    curves,
    differences,
    finish,
    fit,
    fit_killed_in_writing,
    last,
    run_alone,
    start,
)


class Whole:
    """A run that was not interrupted.

    Args:
        directory: Directory of the runs.
        settings: Settings of the run, and of the runs to compare with it.
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.directory, self.settings = directory, settings
        run = directory / "whole"
        assert run_alone(fit, run, settings, 0, output=directory / "whole.log") == 0
        self.contents, self.curves = contents(run), curves(run)
        self.calls = int((run / "calls").read_text())

    def check_killed_at(self, call: int) -> int:
        """Kill a run at a function call, resume it, and return the step it was resumed from."""
        run, output = self.directory / f"killed_{call}", self.directory / f"{call}.log"
        assert run_alone(fit, run, self.settings, call, output=output) == -signal.SIGKILL
        step = 0
        if last(run).exists():
            step = torch.load(last(run), weights_only=True)["global_step"]
        logged = [int(row.split(",")[0]) + 1 for row in curves(run)[1:]]
        assert max(logged, default=0) - step <= self.settings.every_n_steps  # steps lost
        assert run_alone(fit, run, self.settings, output=output) == 0, output.read_text()
        assert differences(self.contents, contents(run)) == [], f"killed at call {call}"
        assert self.curves == curves(run), f"killed at call {call}"
        assert not list(run.glob("*.partial"))
        return step


def moments(number: int, calls: int, seed: int) -> list[int]:
    """Function calls at which to kill: one at random in each of equal parts of a run."""
    draw = random.Random(seed)
    return [int((part + draw.random()) / number * calls) + 1 for part in range(number)]


def test_killed_at_20_random_moments(tmp_path: Path) -> None:
    whole = Whole(tmp_path, Settings())
    steps = [whole.check_killed_at(call) for call in moments(20, whole.calls, seed=0)]
    assert steps == sorted(steps)
    assert {0, 3, 4, 7} <= set(steps)  # at the start, within both epochs, between them


@pytest.mark.parametrize(
    ("trainer", "workers"),
    [
        ({"accumulate_grad_batches": 2, "max_epochs": 4}, 0),
        ({"val_check_interval": 0.5}, 0),
        ({"check_val_every_n_epoch": 2}, 0),
        ({"max_steps": 7, "max_epochs": -1}, 0),
        ({"max_steps": 6}, 0),
        ({"limit_train_batches": 3}, 2),
    ],
)
def test_killed_with_other_settings(trainer: dict[str, Any], workers: int, tmp_path: Path) -> None:
    whole = Whole(tmp_path, Settings(trainer=trainer, workers=workers, every_n_steps=2))
    steps = [whole.check_killed_at(round(part * whole.calls)) for part in (0.45, 0.9)]
    assert steps == sorted(steps)
    assert steps[-1] > 0


@pytest.mark.parametrize("place", ["half", "all", "moved"])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(
    place: str, tmp_path: Path
) -> None:
    settings, run, log = Settings(every_n_steps=1), tmp_path / "run", tmp_path / "log"
    killed = run_alone(fit_killed_in_writing, run, settings, place, 3, output=log)
    assert killed == -signal.SIGKILL
    partial = run / "last.ckpt.partial"
    assert partial.stat().st_size > 0
    assert torch.load(last(run), weights_only=True)["global_step"] == 2
    if place == "half":
        with pytest.raises((RuntimeError, OSError)):
            torch.load(partial, weights_only=True)
    assert run_alone(fit, run, settings, output=log) == 0, log.read_text()
    assert torch.load(last(run), weights_only=True)["global_step"] == 8
    assert not partial.exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A run that saves nothing before its end."""
    return Whole(tmp_path_factory.mktemp("whole"), Settings(every_n_steps=100))


@pytest.mark.parametrize(
    ("stage", "step", "saved"),
    [("train", 1, 2), ("train", 3, 3), ("train", 6, 7), ("validation", 4, 3)],
)
def test_sigterm_saves_and_exits(
    stage: str, step: int, saved: int, whole: Whole, tmp_path: Path
) -> None:
    run, log = tmp_path / "stopped", tmp_path / "log"
    sigterm = SendSignal(signal.SIGTERM, stage, step)
    run_alone(fit, run, Settings(every_n_steps=100, callbacks=[sigterm]), output=log)
    assert torch.load(last(run), weights_only=True)["global_step"] == saved
    assert not (run / "calls").exists()  # it did not run to its end
    assert run_alone(fit, run, whole.settings, output=log) == 0, log.read_text()
    assert differences(whole.contents, contents(run)) == []
    assert curves(run) == whole.curves


def wait_for(path: Path, process: BaseProcess) -> None:
    """Wait until a process has written a file."""
    while not path.exists():
        assert process.is_alive(), f"ended without {path}"
        time.sleep(0.005)


def test_the_command_is_stopped_then_killed_and_ends_the_same(tmp_path: Path) -> None:
    settings = [*tiny(tmp_path), "logger=csv"]
    settings += ["data.train_size=320", "trainer.max_epochs=1", "checkpoint_every_n_steps=2"]
    settings += ["callbacks.panels=null", "data.test_size=1"]
    whole, run, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    command = [*settings, f"hydra.run.dir={whole}"]
    assert run_alone(run_train, tmp_path, *command, output=log) == 0, log.read_text()

    output = tmp_path / "stopped.log"
    process = start(run_train, tmp_path, *settings, f"hydra.run.dir={run}", output=output)
    wait_for(run / "checkpoints/last.ckpt", process)
    process.terminate()
    assert finish(process) == 128 + signal.SIGTERM, output.read_text()
    said = output.read_text()
    assert said.splitlines()[-1].startswith("Stopped by SIGTERM at step ")
    assert f". Last checkpoint: {run}/checkpoints/last.ckpt (step " in said.splitlines()[-1]
    resume = ["ckpt_path=last", f"hydra.run.dir={run}"]
    assert f"python -m saliency_vae.train {' '.join(resume)}" in said
    assert "Traceback" not in said
    assert not (run / "explainer").exists()

    process = start(run_train, tmp_path, *resume, output=log)
    wait_for(run / "explanations.png", process)  # the training is over, the explainer not saved
    process.kill()
    assert finish(process) == -signal.SIGKILL, log.read_text()
    assert run_alone(run_train, tmp_path, *resume, output=log) == 0, log.read_text()
    resumed, uninterrupted = (path / "explainer/model.safetensors" for path in (run, whole))
    assert resumed.read_bytes() == uninterrupted.read_bytes()


def ctrl_c(process: BaseProcess) -> None:
    """Send what a terminal sends: to the process and to those of its loaders."""
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_saves_and_ends_the_command_with_how_to_go_on(workers: int, tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "log"
    settings = [*tiny(tmp_path), "logger=csv"]
    settings += ["data.train_size=640", f"data.num_workers={workers}", f"hydra.run.dir={run}"]
    process = start(run_train_on_terminal, tmp_path, *settings, output=output)
    wait_for(run / "metrics.csv", process)  # there is no checkpoint yet
    ctrl_c(process)
    assert finish(process) == 128 + signal.SIGINT, output.read_text()
    said = output.read_text()
    step = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert re.fullmatch(
        rf"Stopped by Ctrl-C at step {step}\. Last checkpoint: {run}/checkpoints/last\.ckpt "
        rf"\(step {step}\)\. To go on, from the same directory: "
        rf"python -m saliency_vae\.train ckpt_path=last hydra\.run\.dir={run}",
        said.splitlines()[-1],
    )
    assert "Traceback" not in said


def test_a_second_ctrl_c_ends_a_process_that_waits(tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "log"
    settings = [*tiny(tmp_path), "logger=csv"]
    settings += [
        "+callbacks.wait={_target_: tests.faults.two_processes.Wait, step: 1, devices: [0]}",
        f"hydra.run.dir={run}",
    ]
    process = start(run_train_on_terminal, tmp_path, *settings, output=output)
    wait_for(tmp_path / "waits_0", process)
    ctrl_c(process)
    while "A second Ctrl-C stops the run at once." not in output.read_text():
        assert process.is_alive()
        time.sleep(0.01)
    ctrl_c(process)
    assert finish(process) == -signal.SIGINT
    assert "Traceback" not in output.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_training_loses_nothing(number: signal.Signals, tmp_path: Path) -> None:
    run, output = tmp_path / "run", tmp_path / "log"
    settings = [*tiny(tmp_path), "logger=csv"]
    send = "{_target_: tests.faults.small_run.SendSignal, stage: test, step: 2, number: "
    settings += ["+trainer.max_steps=2", f"hydra.run.dir={run}"]
    sent = [*settings, f"+callbacks.send={send}{int(number)}}}"]
    assert run_alone(run_train, tmp_path, *sent, output=output) == 128 + number
    name = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}[number]
    said = output.read_text()
    assert said.splitlines()[-1].startswith(
        f"Stopped by {name} at step 2. Last checkpoint: {run}/checkpoints/last.ckpt (step 2)."
    )
    assert "Traceback" not in said
    resume = ["ckpt_path=last", f"hydra.run.dir={run}", "+callbacks.send=null"]
    assert run_alone(run_train, tmp_path, *resume, output=output) == 0, output.read_text()
    assert (run / "explainer/model.safetensors").is_file()
    assert [row.split(",")[0] for row in curves(run)[1:]] == ["1", "2"]  # 2: of the test images


def test_results_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    runs = []
    for workers in (0, 1, 2):
        run = tmp_path / str(workers)
        assert run_alone(fit, run, Settings(workers=workers), output=tmp_path / "log") == 0
        runs.append(contents(run))
    assert differences(runs[0], runs[1]) == differences(runs[0], runs[2]) == []
    assert curves(tmp_path / "0") == curves(tmp_path / "1") == curves(tmp_path / "2")
