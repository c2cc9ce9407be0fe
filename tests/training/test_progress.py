"""Lines that tell how far a training is."""

import re
import sys
from pathlib import Path

import pytest

from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.progress import ProgressLines
from tests.conftest import BlobsData, MakeModule, make_trainer


def lines(
    module: MakeModule, run: Path, caplog: pytest.LogCaptureFixture, seconds: float
) -> list[str]:
    caplog.set_level("INFO", logger="saliency_vae.training.progress")
    callbacks = [ProgressLines(seconds), RunCheckpoints(str(run), 100)]
    make_trainer(run, callbacks, max_steps=6, max_epochs=2).fit(module(), datamodule=BlobsData())
    return [one.message for one in caplog.records if one.name == "saliency_vae.training.progress"]


def test_a_line_every_so_often_and_one_after_each_validation(
    make_module: MakeModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = lines(make_module, tmp_path, caplog, seconds=0.0)
    number = r"\d+\.\d+"
    step = rf"Step (\d) of 6 \(epoch [01]\): loss {number}, {number} images/s, \d:\d\d:\d\d left"
    validation = rf"Validation after step \d: loss {number}"
    first = "Training 970 parameters for 6 steps"
    patterns = [first, *[step] * 4, validation, *[step] * 2, validation]
    assert len(said) == len(patterns)
    for line, pattern in zip(said, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert said[-2].endswith("0:00:00 left")


def test_seldom_is_seldom(
    make_module: MakeModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = lines(make_module, tmp_path, caplog, seconds=1000)
    assert [line.split(":")[0] for line in said] == [
        "Training 970 parameters for 6 steps",
        "Validation after step 4",
        "Validation after step 6",
    ]


def test_a_terminal_has_a_progress_bar(
    make_module: MakeModule,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert lines(make_module, tmp_path, caplog, seconds=0.0) == []
