"""The checkpoint that a run is resumed from."""

from pathlib import Path

import pytest

from saliency_vae.training.resume import checkpoint_path


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
