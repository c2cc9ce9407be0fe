"""An evaluation by several processes, killed or short of memory, to the bits of one process."""

import os
import signal
import sys
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from saliency_vae.baselines import RandomMap
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluate import evaluate
from tests.commands.test_evaluate import DIGITS, SMALL, metrics
from tests.conftest import draw_plain_figures
from tests.faults.made import make_explainer
from tests.faults.small_run import finish, run_alone, start

SETTINGS = (
    *DIGITS,
    *SMALL,
    "data.test_size=9",
    "batch_size=4",
    "baseline_images=[blur,inpaint]",
    "robustness_images=1",
    "grid_questions=12",  # in three batches, which processes share
    "methods=[explainer,gradient,oracle,random]",
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of an evaluation."""
    explainer = make_explainer(tmp_path_factory.mktemp("made"))
    return [f"explainer={explainer}", *SETTINGS]


def run_evaluate(run: Path, *arguments: str) -> None:
    """Run the command; it draws nothing."""
    draw_plain_figures(pytest.MonkeyPatch())  # for the rest of this process
    sys.argv = ["evaluate.py", f"hydra.run.dir={run}", *arguments]
    evaluate()


def run_broken(run: Path, fault: str, *arguments: str) -> None:
    """Run the command, in which the last of the methods fails at the second batch."""
    explain = RandomMap.__call__
    sizes: list[int] = []

    def broken(self: RandomMap, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        sizes.append(len(batch["image"]))
        if sizes.count(4) == 2:
            if fault == "memory":
                raise MemoryError
            if fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            for process in active_children():  # that of the loader
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                process.join()
        return explain(self, batch, classifier)

    RandomMap.__call__ = broken  # type: ignore[method-assign]
    run_evaluate(run, *arguments)


@pytest.fixture(scope="module")
def whole(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one process."""
    run, log = tmp_path_factory.mktemp("whole") / "run", tmp_path_factory.mktemp("log") / "log"
    assert run_alone(run_evaluate, run, *given, output=log) == 0, log.read_text()
    return run


def measured(run: Path) -> dict[Any, Any]:
    return {key: row for key, row in metrics(run).items() if key[1] != "seconds"}


def check_equal(run: Path, expected: Path) -> None:
    """Check that all results but times are the same, bit for bit."""
    assert measured(run) == measured(expected)
    with np.load(run / "curves.npz") as found, np.load(expected / "curves.npz") as wanted:
        assert set(found) == set(wanted)
        for name in found:
            np.testing.assert_array_equal(found[name], wanted[name])
    assert (run / "report.html").is_file()
    assert not (run / "progress").exists()


def test_two_processes_share_the_work(given: list[str], whole: Path, tmp_path: Path) -> None:
    run, logs = tmp_path / "run", [tmp_path / "1.log", tmp_path / "2.log"]
    parts = [
        start(run_evaluate, run, *given, f"partition={number}/2", output=log)
        for number, log in enumerate(logs, start=1)
    ]
    assert [finish(part) for part in parts] == [0, 0], [log.read_text() for log in logs]
    last = sorted(log.read_text().splitlines()[-1] for log in logs)
    assert last[0] == str(run / "report.html")
    assert last[1].startswith("Partition ")
    check_equal(run, whole)


def test_a_killed_partition_is_started_again_or_left_to_another(
    given: list[str], whole: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    killed = run_alone(run_broken, run, "kill", *given, "partition=1/1", output=log)
    assert killed == -signal.SIGKILL
    assert run_alone(run_evaluate, run, *given, "partition=2/3", output=log) == 0
    assert "Partition 2/3 is done. The last one to finish writes" in log.read_text()
    assert not (run / "report.html").exists()
    assert run_alone(run_evaluate, run, *given, "partition=1/1", output=log) == 0, log.read_text()
    check_equal(run, whole)


@pytest.mark.parametrize(
    ("fault", "found", "again"),
    [
        ("memory", "it full: MemoryError. What is done is kept: the same", "batch_size=2"),
        ("loader", "a process killed, perhaps for its memory: DataLoader", "num_workers=1"),
    ],
)
def test_a_fault_in_a_later_batch_loses_no_other(
    fault: str, found: str, again: str, given: list[str], whole: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    workers = "num_workers=1" if fault == "loader" else "num_workers=0"
    assert run_alone(run_broken, run, fault, *given, workers, output=log) == 1
    said = log.read_text().replace("\r", "\n")
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: Expected batch_size < 4, to fit into memory. Found {found}")
    assert line.endswith(f"the same command with hydra.run.dir={run} goes on.")
    kept = {file.relative_to(run / "progress/scores") for file in run.rglob("scores/*/*.pt")}
    assert {Path("explainer/0-4.pt"), Path("random/0-4.pt")} <= kept
    assert Path("random/8-9.pt") not in kept

    log = tmp_path / "again"
    assert run_alone(run_evaluate, run, *given, again, output=log) == 0, log.read_text()
    assert "Going on with the evaluation" in log.read_text()
    if fault == "loader":
        check_equal(run, whole)
    with np.load(run / "curves.npz") as known, np.load(whole / "curves.npz") as wanted:
        for name in wanted:  # to rounding, which depends on the size of a batch
            np.testing.assert_allclose(known[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_wrong_partitions_are_refused(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for partition, expected in (
        ("3/2", "partition=K/N with 1 <= K <= N"),
        ("1/2", "hydra.run.dir=DIR, the same of all 2 partitions. Found none."),
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *given, f"partition={partition}"])
        with pytest.raises(SystemExit) as ended:
            evaluate()
        assert str(ended.value.code).startswith(f"error: Expected {expected}")
