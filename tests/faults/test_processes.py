"""A run on two devices, of which one process fails: both end, and one line says why."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.commands.test_train import tiny
from tests.faults.small_run import finish, start
from tests.faults.two_processes import run_on_two

SECONDS = 60  # on a busy machine; the processes look at each other every second


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + SECONDS
    while is_alive(pid):
        assert time.monotonic() < until, "the other process goes on"
        time.sleep(0.05)


def errors(output: str) -> list[str]:
    assert "Traceback" not in output, output
    return [line for line in output.splitlines() if line.startswith(("error: ", "Stopped by"))]


def settings(directory: Path, *further: str) -> list[str]:
    return [
        *tiny(directory),
        "logger=csv",
        "data.train_size=640",
        "checkpoint_every_n_steps=2",
        f"hydra.run.dir={directory}/run",
        *further,
    ]


@pytest.mark.parametrize(
    ("killed", "waiting"),
    [
        (1, [1]),  # the other one is told by its communication
        (0, [0, 1]),  # it is not, as on GPUs
        (1, [0, 1]),
    ],
)
def test_a_killed_process_ends_the_other(killed: int, waiting: list[int], tmp_path: Path) -> None:
    log = tmp_path / "log"
    wait = "+callbacks.wait={_target_: tests.faults.two_processes.Wait, step: 3, devices: "
    command = settings(tmp_path, f"{wait}{waiting}}}")
    process = start(run_on_two, tmp_path, free_port(), *command, output=log)
    while not all((tmp_path / f"waits_{device}").exists() for device in waiting):
        assert process.is_alive(), log.read_text()
        time.sleep(0.02)
    pids = [int((tmp_path / f"pid_{device}").read_text()) for device in (0, 1)]
    time.sleep(0.5)  # until the other one waits, too
    os.kill(pids[killed], signal.SIGKILL)
    wait_until_gone(pids[1 - killed])
    assert finish(process) == (-signal.SIGKILL if killed == 0 else 1), log.read_text()
    (line,) = errors(log.read_text())
    assert f"ckpt_path=last hydra.run.dir={tmp_path}/run" in line
    if killed == 0:
        assert "Expected the run's first process to go on. It ended." in line
    else:
        assert "Expected all 2 processes of the run to go on." in line
        assert "Found that of device 1 ended by SIGKILL." in line
        assert re.search(r"Last checkpoint: .*last\.ckpt \(step 2\)", line)


def test_a_loss_that_breaks_on_one_device_ends_both(tmp_path: Path) -> None:
    log = tmp_path / "log"
    broken = [
        "+callbacks.broken._target_=tests.faults.two_processes.BreakLoss",
        "+callbacks.broken.device=1",
        "+callbacks.broken.step=3",
    ]
    process = start(run_on_two, tmp_path, free_port(), *settings(tmp_path, *broken), output=log)
    assert finish(process) == 1, log.read_text()
    wait_until_gone(int((tmp_path / "pid_1").read_text()))
    (line,) = errors(log.read_text())
    assert "Found a loss of inf in step 3 (epoch 0, batch 2), from train digit " in line
    assert re.search(r"Last good checkpoint: .*last\.ckpt \(step 2\)", line)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_one_process_saves_and_ends_both(number: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = start(run_on_two, tmp_path, free_port(), *settings(tmp_path), output=log)
    while not (tmp_path / "run/checkpoints/last.ckpt").exists():
        assert process.is_alive(), log.read_text()
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert finish(process) == 128 + number, log.read_text()
    wait_until_gone(int((tmp_path / "pid_1").read_text()))
    (line,) = errors(log.read_text())
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    found = re.search(rf"Stopped by {name} at step (\d+)\. Last .*last\.ckpt \(step (\d+)\)", line)
    assert found is not None
    assert found[1] == found[2]  # it was saved
