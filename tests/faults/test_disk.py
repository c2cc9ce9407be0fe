"""Disks that are full and places that cannot be written to."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
import torch

from saliency_vae.cli.run_directory import take
from saliency_vae.models import load_explainer
from tests.commands.test_train import TINY, error_of
from tests.faults import explainer_run
from tests.faults.full_disk import Fill, fill_and_run, free, small_disk
from tests.faults.small_run import (
    Settings,
    contents,
    curves,
    differences,
    finish,
    fit,
    last,
    run_alone,
    start,
)
from tests.faults.test_killed import Whole, moments


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as directory:
        yield directory


def the_error(output: str) -> str:
    """The one line that a process prints when it fails."""
    assert "Traceback" not in output, output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    return line


def test_a_disk_that_gets_full_stops_the_run_and_harms_nothing(disk: Path, tmp_path: Path) -> None:
    whole = Whole(tmp_path, Settings())
    run, log = disk / "run", tmp_path / "log"
    assert run_alone(fit, run, Settings(callbacks=[Fill(disk, step=5)]), output=log) == 1
    error = the_error(log.read_text())
    assert str(last(run)) in error
    assert "space" in error or "too large" in error
    assert torch.load(last(run), weights_only=True)["global_step"] == 4
    assert not list(run.glob("*.partial"))
    free(disk)
    assert run_alone(fit, run, whole.settings, output=log) == 0, log.read_text()
    assert differences(whole.contents, contents(run)) == []
    assert curves(run) == whole.curves


def test_a_full_disk_leaves_the_explainer_that_was_there(disk: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_alone(explainer_run.save, disk / "old", 0, output=log) == 0
    for name in ("old", "new"):
        save = (explainer_run.save, disk / name, 1)
        assert run_alone(fill_and_run, disk, *save, output=log) == 1
        free(disk)
    assert log.read_text().count("error: ") == 2
    assert log.read_text().count("/model.safetensors. Found: ") == 2
    assert load_explainer(disk / "old").config.metrics["seed"] == 0
    with pytest.raises(ValueError, match=r"config\.json"):
        load_explainer(disk / "new")


def test_an_explainer_is_never_half_saved(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wholes = [tmp_path / "whole_0", tmp_path / "whole_1"]
    for seed, whole in enumerate(wholes):
        assert run_alone(explainer_run.save, whole, seed, output=log) == 0
    calls = int((tmp_path / "calls").read_text())

    def found(directory: Path) -> int | None:
        try:
            seed = int(load_explainer(directory).config.metrics["seed"])
        except ValueError:
            return None
        names = ("model.safetensors", "config.json")
        for name in names:
            assert (directory / name).read_bytes() == (wholes[seed] / name).read_bytes()
        return seed

    outcomes = set()
    for call in [*moments(6, calls, seed=0), *range(calls - 200, calls, 8)]:
        directory = tmp_path / str(call)
        shutil.copytree(wholes[0], directory)
        assert run_alone(explainer_run.save, directory, 1, call, output=log) == -signal.SIGKILL
        outcomes.add(found(directory))
    assert outcomes == {0, None, 1}
    assert run_alone(explainer_run.save, directory, 1, output=log) == 0  # over what a kill left
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]


@pytest.fixture(params=["below a file", "read-only"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory that nobody can write to, root included."""
    if request.param == "below a file":
        (tmp_path / "file").touch()
        yield tmp_path / "file"
        return
    place = tmp_path / "read-only"
    place.mkdir()
    place.chmod(0o555)
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        (place / "probe").touch()
    except OSError:
        yield place
    else:
        pytest.skip("root, who may not mount")
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)


def test_a_run_directory_that_cannot_be_written(
    unwritable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = error_of(monkeypatch, *TINY, "logger=csv", f"hydra.run.dir={unwritable}/run")
    assert str(unwritable) in error
    assert "hydra.run.dir" in error


def test_a_wandb_directory_that_cannot_be_written(
    unwritable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = [*TINY, f"logger.wandb.save_dir={unwritable}/w", f"hydra.run.dir={tmp_path}/run"]
    error = error_of(monkeypatch, *settings)
    assert f"logger.wandb.save_dir={unwritable}/w" in error
    assert "logger=csv" in error


class StoppedClock(datetime):
    """Clock that always shows the same second."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "StoppedClock":
        return cls(2030, 1, 1)


def test_runs_of_the_same_second_have_directories_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hydra.core.utils.datetime", StoppedClock)
    for seed in (1, 2, 3):
        assert "beta" in error_of(monkeypatch, *TINY, "logger=csv", "beta=-1", f"seed={seed}")
    for seed, suffix in ((1, ""), (2, "_2"), (3, "_3")):
        run = tmp_path / f"outputs/cluttered_digits/2030-01-01_00-00-00{suffix}"
        assert f"- seed={seed}" in (run / ".hydra/overrides.yaml").read_text()


def test_processes_that_want_the_same_directory_at_once_get_different_ones(tmp_path: Path) -> None:
    processes = [start(take, tmp_path / "run", output=tmp_path / "log") for _ in range(6)]
    assert [finish(process) for process in processes] == [0] * 6
    taken = {path.parent.name for path in tmp_path.glob("*/.hydra")}
    assert taken == {"run", "run_2", "run_3", "run_4", "run_5", "run_6"}
