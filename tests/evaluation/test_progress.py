"""Parts of an evaluation that are done are not done again."""

import json
from pathlib import Path

import pytest
import torch

from saliency_vae.evaluation.progress import Part, Progress, begin

SETTINGS = {"steps": 24, "explainer": "runs/a", "names": ("x", "y")}


def never() -> Part:
    raise AssertionError


def test_parts_are_read_as_they_were_computed(tmp_path: Path) -> None:
    part = {"values": {"iou": torch.rand(3)}, "maps": torch.rand(2, 4, 4), "seconds": 0.25}
    begin(tmp_path / "progress", SETTINGS).part("scores/rise/0", lambda: part)
    found = begin(tmp_path / "progress", SETTINGS).part("scores/rise/0", never)
    torch.testing.assert_close(found, part)


def test_a_part_that_failed_is_computed_again(tmp_path: Path) -> None:
    progress = begin(tmp_path, SETTINGS)
    with pytest.raises(AssertionError):
        progress.part("a", never)
    assert progress.part("a", lambda: {"seconds": 1.0}) == {"seconds": 1.0}


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    begin(tmp_path / "progress", SETTINGS)
    with pytest.raises(ValueError, match=r"steps=24\. Found steps=16\. Another hydra\.run\.dir"):
        begin(tmp_path / "progress", {**SETTINGS, "steps": 16})
    kept = json.loads((tmp_path / "progress/settings.json").read_text())
    assert kept == {"steps": 24, "explainer": "runs/a", "names": ["x", "y"]}


def test_going_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path / "progress", SETTINGS)
    assert capsys.readouterr().out == ""
    begin(tmp_path / "progress", SETTINGS)
    assert capsys.readouterr().out.startswith("Going on with the evaluation that was begun in")


def test_parts_are_removed_at_the_end(tmp_path: Path) -> None:
    progress = begin(tmp_path / "progress", SETTINGS)
    progress.part("a/b/c", lambda: {"seconds": 1.0})
    progress.remove()
    assert not (tmp_path / "progress").exists()


def test_without_a_directory_nothing_is_kept() -> None:
    progress = Progress()
    assert progress.part("a", lambda: {"seconds": 1.0}) == {"seconds": 1.0}
    assert progress.part("a", lambda: {"seconds": 2.0}) == {"seconds": 2.0}
    progress.remove()
