"""Parts of an evaluation that are done are not done again."""

import json
from pathlib import Path

import pytest
import torch

from saliency_vae.evaluation.progress import Part, Progress, begin
from saliency_vae.inference.partition import Partition

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


def test_rows_of_a_kept_part_are_not_computed_again(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    values, maps = torch.rand(6), torch.rand(4, 2, 2)  # of six images; maps of the first four
    part = {"values": {"iou": values}, "maps": maps, "seconds": 3.0, "images": 6}
    assert progress.rows("scores/rise", slice(6, 12), lambda: part) == part
    found = progress.rows("scores/rise", slice(9, 11), never)
    assert found is not None
    torch.testing.assert_close(found["values"]["iou"], values[3:5])
    torch.testing.assert_close(found["maps"], maps[3:])
    assert (found["seconds"], found["images"]) == (1.0, 2)
    with pytest.raises(AssertionError):
        progress.rows("scores/rise", slice(5, 7), never)


def test_each_part_belongs_to_one_partition(tmp_path: Path) -> None:
    shares = [Progress(tmp_path, partition) for partition in Partition().split(3)]
    for turn in range(7):
        rows = slice(turn, turn + 1)
        found = [share.rows("a", rows, lambda: {"images": 1}, turn) for share in shares]
        assert [number for number, part in enumerate(found) if part] == [turn % 3]
    assert [share.is_complete() for share in shares] == [False, False, True]
    assert Progress(tmp_path).is_complete()
