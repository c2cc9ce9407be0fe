"""Many images: explained by several processes, killed and started again, to the same bits."""

import os
import re
import resource
import signal
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from saliency_vae import load_explanations
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.explain import explain
from saliency_vae.inference import devices
from saliency_vae.inference.image_files import BrokenImage, InputImages
from saliency_vae.inference.outputs import Outputs
from saliency_vae.inference.partition import Partition
from saliency_vae.visualization import Explanation, InputImage
from tests.faults.full_disk import fill, free, small_disk
from tests.faults.made import make_explainer
from tests.faults.small_run import CallCounter, finish, run_alone, start

NUMBER = 14  # images, of which one is broken
QUIET = ("panels=none", "batch_size=2", "num_workers=2")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of an explainer and of images."""
    directory = tmp_path_factory.mktemp("given")
    for index in range(NUMBER):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(directory / f"{index:02}.png")
    (directory / "03.png").write_text("no image")
    explainer = make_explainer(directory / "model")
    return [f"explainer={explainer}", f"images={directory}/*.png", *QUIET]


def run_explain(out: Path, *arguments: str, kill_at: int | None = None) -> None:
    """Run the command, and write the number of its function calls beside its outputs."""
    sys.argv = ["explain.py", f"output_dir={out}", *arguments]
    with CallCounter(kill_at) as calls:
        try:
            explain()
        finally:
            out.with_suffix(".calls").write_text(str(calls.number))


def run_counted(out: Path, kill_at: int, *arguments: str) -> None:
    """Run the command to a function call, or with 0 to its end."""
    run_explain(out, *arguments, kill_at=kill_at)


def run_in_array(out: Path, job: int, *arguments: str) -> None:
    """Run the command as one of an array of four jobs."""
    array = {"ID": job, "COUNT": 4, "MIN": 1, "STEP": 1}
    os.environ |= {f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in array.items()}
    run_explain(out, *arguments)


def run_forking(out: Path, *arguments: str) -> None:
    """Run the command, which forks the processes of its devices: they start at once."""
    with patch.object(devices, "get_context", lambda _: get_context("fork")):
        run_explain(out, *arguments)


def run_waiting(out: Path, *arguments: str) -> None:
    """Run the command, which waits forever before its first batch is saved."""

    def wait(*_: Any) -> None:
        out.with_suffix(".waits").touch()
        while True:
            signal.pause()

    Outputs.save = wait  # type: ignore[method-assign, assignment]
    run_explain(out, *arguments)


@pytest.fixture(scope="module")
def whole(given: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of one process."""
    directory = tmp_path_factory.mktemp("whole")
    log = directory / "log"
    assert run_alone(run_counted, directory / "out", 0, *given, output=log) == 1, log.read_text()
    return directory / "out"


def check_equal(out: Path, expected: Path) -> None:
    """Check that two directories hold the same explanations, bit for bit, and the same gallery."""
    found, wanted = load_explanations(out), load_explanations(expected)
    assert list(found) == list(wanted)
    assert len(found) == NUMBER - 1
    for name in found:
        one, other = found[name], wanted[name]
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])
    for page in ("index.html", "broken.txt"):  # one directory may lie deeper than the other
        texts = [re.sub(r"(\.\./)+", "", (place / page).read_text()) for place in (out, expected)]
        assert texts[0] == texts[1]
    assert not list(out.rglob("*.partial"))


def test_an_array_of_four_jobs_is_one_job(given: list[str], whole: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    for job in (2, 4, 1, 3):
        assert not (out / "index.html").exists()
        log = tmp_path / f"{job}.log"
        status = run_alone(run_in_array, out, job, *given, output=log)
        said.append(log.read_text())
        assert status == int(job == 3), said[-1]
    assert "Partition 2/4, of SLURM_ARRAY_TASK_ID: 3 of 4 images explained." in said[0]
    assert "1 could not be explained:\n  03.png: cannot identify" in said[0]
    assert "10 images are left to other partitions" in said[0]
    assert f"1 could not be explained (all in {out}/broken.txt):" in said[3]
    assert f"{out}/index.html" in said[3]
    check_equal(out, whole)


def test_two_processes_share_the_images(given: list[str], whole: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    parts = [start(run_explain, out, *given, f"partition={part}/2", output=log) for part in (1, 2)]
    statuses = sorted(finish(part) for part in parts)
    assert statuses in ([0, 1], [1, 1]), log.read_text()
    check_equal(out, whole)


def test_each_device_has_a_process(given: list[str], whole: Path, tmp_path: Path) -> None:
    """Also where the other of two jobs is at work."""
    out, log = tmp_path / "out", tmp_path / "log"
    given = [*given, "devices=2", "device=cpu"]
    with Outputs(out).locks() as locks:
        locks.take(Partition(1, 2).split(2)[0], alone=False)  # a process of the other job
        assert run_alone(run_forking, out, *given, "partition=1/2", output=log) == 0, (
            log.read_text()
        )
        assert run_alone(run_explain, out, *given, "partition=1/3", output=log) == 1
    assert run_alone(run_forking, out, *given, "partition=2/2", output=log) == 1
    said = log.read_text()
    for text in ("8 of 8 images", "With partition=1/1 the same command", "5 of 6 images"):
        assert text in said
    assert "than those of other partitions K/3 with as many devices. Found one" in said
    assert "Traceback" not in said
    check_equal(out, whole)


def test_a_second_process_is_refused_in_one_line(given: list[str], tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    first = start(run_waiting, out, *given, "num_workers=0", output=tmp_path / "first")
    while not (tmp_path / "out.waits").exists():
        assert first.is_alive()
        time.sleep(0.02)
    assert run_alone(run_explain, out, *given, output=log) == 1
    (line,) = log.read_text().splitlines()
    assert line.startswith(f"error: Expected no other process to write to {out} than those of")
    first.kill()
    assert finish(first) == -signal.SIGKILL
    log = tmp_path / "third"
    assert run_alone(run_explain, out, *given, output=log) == 1
    assert "13 of 14 images explained." in log.read_text()


def test_killed_at_any_moment_it_goes_on(given: list[str], whole: Path, tmp_path: Path) -> None:
    calls, explained = int(whole.with_suffix(".calls").read_text()), []
    for share in (0.3, 0.8, 0.9, 0.97):
        out, log = tmp_path / f"{share}", tmp_path / f"{share}.log"
        killed = run_alone(run_counted, out, round(share * calls), *given, output=log)
        assert killed == -signal.SIGKILL, log.read_text()
        log = tmp_path / f"{share}.again"
        assert run_alone(run_explain, out, *given, output=log) == 1, log.read_text()
        check_equal(out, whole)
        (line,) = (line for line in log.read_text().splitlines() if "images explained" in line)
        explained.append(int(line.split()[0]))
    assert explained == sorted(explained, reverse=True)
    assert explained[-1] < NUMBER - 1


def break_later(out: Path, fault: str) -> None:
    """Let a batch fail after some others, in this process or in those that it forks."""
    forward, read, save = FrozenClassifier.forward, InputImages.__getitem__, Outputs.save
    first, calls = os.getpid(), 0

    def broken_forward(self: FrozenClassifier, images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls > 8:  # of two batches, some of which are views
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore.")
        return forward(self, images)

    def broken_read(self: InputImages, index: int) -> InputImage | BrokenImage:
        if index == 11 and os.getpid() != first:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(self, index)

    def broken_save(self: Outputs, found: Sequence[Explanation], broken: Any) -> Any:
        if any(explanation.source.name == "05.png" for explanation in found):
            if fault == "saver":
                os.kill(os.getpid(), signal.SIGKILL)
            fill(out.parent)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # where it is no small disk
        return save(self, found, broken)

    patched: dict[str, tuple[Any, str, Any]] = {
        "loader": (InputImages, "__getitem__", broken_read),
        "saver": (Outputs, "save", broken_save),
        "disk": (Outputs, "save", broken_save),
    }
    place, name, broken = patched.get(fault, (FrozenClassifier, "forward", broken_forward))
    setattr(place, name, broken)


def run_broken(out: Path, fault: str, *arguments: str) -> None:
    """Run the command, one of whose later batches fails."""
    break_later(out, fault)
    run_explain(out, *arguments)


@pytest.mark.parametrize(
    ("fault", "workers", "said"),
    [
        ("accelerator", 0, "Expected batch_size < 2, or smaller images, to fit into memory. Found"),
        ("loader", 1, "Found a process killed, perhaps for its memory: DataLoader worker (pid"),
        ("saver", 1, "Found a process killed, perhaps for its memory: A "),
        ("disk", 1, "Free some space: "),
    ],
)
def test_a_fault_in_a_later_batch_loses_no_other(
    fault: str, workers: int, said: str, given: list[str], whole: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        out, log = disk / "out", tmp_path / "log"
        settings = [*given, f"num_workers={workers}"]
        assert run_alone(run_broken, out, fault, *settings, "overwrite=true", output=log) == 1
        text = log.read_text().replace("\r", "\n")
        assert "Traceback" not in text
        (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
        assert said in line
        assert line.endswith("the same command without overwrite=true goes on.")
        found, expected = load_explanations(out), load_explanations(whole)
        assert 0 < len(found) < NUMBER - 1
        for name in found:
            np.testing.assert_array_equal(found[name]["mean"], expected[name]["mean"])
        free(disk)
        log = tmp_path / "again"
        assert run_alone(run_explain, out, *settings, output=log) == 1, log.read_text()
        assert f"{NUMBER - 1 - len(found)} of 14 images explained" in log.read_text()
        check_equal(out, whole)
