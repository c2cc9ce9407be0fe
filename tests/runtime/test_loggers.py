"""Loggers: a CSV file that survives a resumed run, and W&B that never asks."""

import contextlib
import csv
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from saliency_vae.runtime.loggers import MetricsCSV, wandb_logger
from tests.faults.small_run import run_alone
from tests.runtime.fake_wandb import log_offline, server


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log(path: Path, *logged: tuple[int, dict[str, float]]) -> None:
    """Log as one part of a run: its own logger."""
    logger = MetricsCSV(str(path))
    for step, metrics in logged:
        logger.log_metrics(metrics, step)


def test_one_row_each_step(tmp_path: Path) -> None:
    path = tmp_path / "deep/metrics.csv"
    log(path, (0, {"loss": 2.0, "epoch": 0}), (5, {"loss": 1.5, "epoch": 0}))
    assert path.read_text().splitlines() == ["step,loss,epoch", "0,2.0,0", "5,1.5,0"]
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.csv"]


def test_each_row_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = MetricsCSV(str(path))
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
        assert len(rows(path)) == step + 1


def test_new_columns_may_appear_later(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, (0, {"loss": 2.0}), (1, {"val/loss": 3.0}), (2, {"loss": 1.0}), (2, {"a,b": 4.0}))
    assert rows(path) == [
        {"step": "0", "loss": "2.0", "val/loss": "", "a,b": ""},
        {"step": "1", "loss": "", "val/loss": "3.0", "a,b": ""},
        {"step": "2", "loss": "1.0", "val/loss": "", "a,b": "4.0"},
    ]


def test_each_step_has_one_row_whatever_is_logged_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, (0, {"a": 1.0}), (1, {"a": 2.0}), (1, {"a": 2.0}), (1, {"b": 3.0}), (1, {"b": 4.0}))
    assert path.read_text().splitlines() == ["step,a,b", "0,1.0,", "1,2.0,4.0"]
    log(path, (2, {"a": 5.0}), (2, {"b": 6.0}), (3, {"a": 7.0}))
    assert path.read_text().splitlines()[2:] == ["1,2.0,4.0", "2,5.0,6.0", "3,7.0,"]


@pytest.mark.parametrize(("start", "kept"), [(0, []), (3, ["0", "2"]), (5, ["0", "2", "4"])])
def test_the_start_of_a_part_decides_which_rows_stay(
    start: int, kept: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "metrics.csv"
    log(path, *((step, {"loss": 1.0, "other": 2.0}) for step in (0, 2, 4, 6)))
    logger = MetricsCSV(str(path))
    logger.start(start)
    assert len(rows(path)) == 4  # nothing is left out before something is logged
    logger.log_metrics({"loss": 9.0}, 8)
    assert [row["step"] for row in rows(path)] == [*kept, "8"]


def test_a_validation_that_is_repeated_at_the_start_is_added_to_its_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, (0, {"loss": 1.0}), (1, {"loss": 2.0}), (1, {"val/loss": 3.0}))
    logger = MetricsCSV(str(path))
    logger.start(2)
    logger.log_metrics({"val/loss": 4.0}, 1)
    assert path.read_text().splitlines() == ["step,loss,val/loss", "0,1.0,", "1,2.0,4.0"]


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n0,1.0\n1,2.")
    logger = MetricsCSV(str(path))
    logger.start(2)
    logger.log_metrics({"loss": 3.0}, 2)
    assert path.read_text().splitlines() == ["step,loss", "0,1.0", "2,3.0"]


def test_a_resumed_run_keeps_earlier_rows_and_replaces_repeated_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, *((step, {"loss": float(step)}) for step in (0, 2, 4, 6)))
    log(path, (4, {"loss": 40.0}), (6, {"loss": 60.0}), (8, {"loss": 80.0}))
    assert [row["step"] for row in rows(path)] == ["0", "2", "4", "6", "8"]
    assert [row["loss"] for row in rows(path)] == ["0.0", "2.0", "40.0", "60.0", "80.0"]


def test_a_resumed_run_keeps_the_columns_and_may_add_some(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, (0, {"loss": 1.0, "val/loss": 2.0}), (1, {"loss": 3.0}))
    log(path, (2, {"new": 5.0}), (3, {"val/loss": 6.0}))
    assert [list(row.values()) for row in rows(path)] == [
        ["0", "1.0", "2.0", ""],
        ["1", "3.0", "", ""],
        ["2", "", "", "5.0"],
        ["3", "", "6.0", ""],
    ]
    assert list(rows(path)[0]) == ["step", "loss", "val/loss", "new"]


def test_a_run_that_starts_again_replaces_everything(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    log(path, (0, {"loss": 1.0}), (1, {"loss": 2.0}))
    log(path, (0, {"loss": 9.0}))
    assert rows(path) == [{"step": "0", "loss": "9.0"}]


def test_a_third_part_goes_on_too(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for first in (0, 3, 5):
        log(path, *((step, {"part": float(first)}) for step in range(first, first + 4)))
    assert [row["part"][0] for row in rows(path)] == list("000335555")


def test_hyper_parameters_are_not_its_business(tmp_path: Path) -> None:
    logger = MetricsCSV(str(tmp_path / "metrics.csv"))
    logger.log_hyperparams({"beta": 1})
    assert (logger.name, list(tmp_path.iterdir())) == ("csv", [])


def mode_of(logger: WandbLogger) -> Any:
    return logger._wandb_init.get("mode")


@pytest.mark.parametrize(
    ("found", "environment", "offline", "expected"),
    [
        (True, None, None, None),  # W&B's own default: online
        (False, None, None, "offline"),
        (False, None, False, "online"),
        (True, None, True, "offline"),
        (True, "offline", None, "offline"),
        (False, "disabled", None, "disabled"),
        (False, "offline", False, "online"),
    ],
)
def test_the_mode(
    found: bool,
    environment: str | None,
    offline: bool | None,
    expected: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def login(*, prompt: bool, verify: bool) -> bool:
        assert not prompt
        assert not verify  # nothing is asked of the network either
        return found

    monkeypatch.setattr(wandb, "login", login)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    logger = wandb_logger(str(tmp_path / "run"), project="mine", name="this", offline=offline)
    assert mode_of(logger) == expected
    assert (tmp_path / "run").is_dir()
    assert logger._wandb_init["project"] == "mine"
    assert logger._wandb_init["name"] == "this/run"
    assert logger._wandb_init["resume"] == "allow"
    again = wandb_logger(str(tmp_path / "run"), offline=offline)
    assert again._wandb_init["id"] == logger._wandb_init["id"]  # a resumed run goes on


def test_only_the_first_process_names_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert wandb_logger(str(tmp_path), offline=True)._wandb_init["id"] is None
    assert not list(tmp_path.rglob("run_id"))
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    name = wandb_logger(str(tmp_path), offline=True)._wandb_init["id"]
    assert [path.read_text() for path in tmp_path.rglob("run_id")] == [name]


SCRIPT = """
import os
import sys
import threading
from saliency_vae.runtime.loggers import wandb_logger
assert sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
logger = wandb_logger(sys.argv[1])
assert logger._wandb_init["mode"] == "offline", logger._wandb_init
logger.log_metrics({"loss": 1.0}, 0)
assert logger.experiment.offline
logger.experiment.finish()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
assert wandb_logger(sys.argv[1])._wandb_init["mode"] == "offline"
print("not " + "asked")
"""


def on_a_terminal(command: list[str], environment: dict[str, str], seconds: float) -> str:
    """Output of a command on a terminal where nobody types; it is killed when its time is over."""
    own_end, far_end = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=far_end,
        stdout=far_end,
        stderr=far_end,
        env=environment,
        start_new_session=True,
    )
    os.close(far_end)
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    output = b""
    with contextlib.suppress(OSError):  # how Linux ends a terminal
        while part := os.read(own_end, 4096):
            output += part
    process.wait()
    timer.cancel()
    os.close(own_end)
    return output.decode(errors="replace")


def test_without_a_key_it_is_offline_and_never_asks(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if "WANDB" not in key}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "COLUMNS": "500"}
    run = tmp_path / "run"
    said = on_a_terminal([sys.executable, "-c", SCRIPT, str(run)], environment, seconds=60)
    assert "not asked" in said, said
    assert "no key found" in said  # it says so
    assert f"wandb sync {run}" in said  # and how to upload
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))


def test_parts_of_an_offline_run_are_uploaded_as_one(tmp_path: Path) -> None:
    """By the real ``wandb sync``, to a server on this machine."""
    log = tmp_path / "log"
    for steps, is_killed in ((range(3), True), (range(2, 5), False)):  # step 2 is repeated
        ended = run_alone(log_offline, str(tmp_path), steps, is_killed, output=log)
        assert ended == (-signal.SIGKILL if is_killed else 0), log.read_text()
    parts = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    environment = {key: value for key, value in os.environ.items() if "WANDB" not in key}
    environment |= {"HOME": str(tmp_path), "WANDB_ERROR_REPORTING": "false"}
    with server() as (address, runs):
        environment |= {"WANDB_BASE_URL": address, "WANDB_API_KEY": "0" * 40}
        command = [sys.executable, "-m", "wandb", "sync", *map(str, parts)]
        synced = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert synced.returncode == 0, synced.stderr
    assert list(runs) == [(tmp_path / "wandb/run_id").read_text()]
    (history,) = runs.values()
    logged = [
        (history[line]["trainer/global_step"], history[line]["loss"]) for line in sorted(history)
    ]
    assert logged == [(0, 0.0), (1, 1.0), (2, 2.0), (2, 2.0), (3, 3.0), (4, 4.0)]
