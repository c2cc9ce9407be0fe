"""The picture of a sweep: an axis for each setting that differs, and for each metric."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from saliency_vae.cli.sweep_figure import _Axis, draw_sweep

METRICS = {"val/loss": "loss", "val/kl": "KL"}


def jobs() -> list[dict[str, Any]]:
    settings = [("0.5", "mean_field"), ("0.9", "correlated"), ("0.99", "mean_field")]
    return [
        {"job": str(i), "prior.correlation": rho, "posterior": kind, "seed": "0"}
        | {"status": "done", "val/loss": 0.5 - i / 10, "val/kl": float(i)}
        for i, (rho, kind) in enumerate(settings)
    ]


def test_numbers_and_options_have_their_places() -> None:
    numbers = _Axis(["0.5", "0.9", "0.99"])
    assert numbers.places == pytest.approx([0, 0.4 / 0.49, 1])
    assert sorted(label for label, _ in numbers.labels) == ["0.5", "0.9", "0.99"]
    assert _Axis([3.0, 1.0, 2.0]).places == [1, 0, 0.5]
    assert sorted(label for label, _ in _Axis([3.0, 1.0, 2.0]).labels) == ["1", "3"]
    options = _Axis(["mean_field", "correlated", ""])
    assert options.places == [1, 0.5, 0]
    assert _Axis([2.0, 2.0]).places == [0, 0]


def test_each_finished_job_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    failed = {**jobs()[0], "job": "3", "status": "failed", "val/loss": math.nan}
    draw_sweep([*jobs(), failed], METRICS, tmp_path / "sweep.png")
    (axes,) = drawn[0].axes
    lines = [np.asarray(line.get_ydata()) for line in axes.lines if np.size(line.get_xdata()) == 4]
    assert len(lines) == 3
    assert lines[-1][2] == 0, "the lowest loss lies on top"
    texts = {text.get_text() for text in axes.texts}
    assert {"prior.\ncorrelation", "posterior", "loss", "KL", "mean_field"} <= texts
    assert "seed" not in texts
    with Image.open(tmp_path / "sweep.png") as picture:
        assert min(picture.size) > 300


def test_one_job_is_no_picture(tmp_path: Path) -> None:
    draw_sweep(jobs()[:1], METRICS, tmp_path / "sweep.png")
    assert not list(tmp_path.iterdir())
