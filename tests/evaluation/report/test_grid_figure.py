"""The figure of class-conditional maps."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from saliency_vae.evaluation.report.grid_figure import questions_figure
from saliency_vae.evaluation.roles import Role

ROLES = {"explainer": Role.EXPLAINER, "grad_cam": Role.RIVAL}
NAMES = [["tench", "a very long name of a class, with synonyms", "slug", "pick"]] * 2


def figure(size: int = 32) -> Figure:
    masks = torch.zeros(2, 4, size, size, dtype=torch.bool)
    half = size // 2
    for cell in range(4):
        top, left = half * (cell // 2), half * (cell % 2)
        masks[:, cell, top : top + half, left : left + half] = True
    maps = {"explainer": torch.rand(2, 4, size, size), "grad_cam": torch.rand(1, 4, size, size)}
    return questions_figure(torch.zeros(2, 3, size, size), masks, NAMES, maps, roles=ROLES)


def test_one_row_a_method_and_one_column_a_question() -> None:
    (axes,) = figure().axes
    rows = axes.get_yticklabels()
    assert [label.get_text() for label in rows] == ["image", "this explainer", "Grad-CAM"]
    assert [label.get_fontweight() for label in rows] == ["normal", "bold", "normal"]
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns[::4] == ["tench", "tench"]
    assert columns[1].count("\n") == 1
    assert max(len(line) for line in columns[1].split("\n")) <= 15
    assert len(columns) == 8


@pytest.mark.parametrize("size", [32, 128])
def test_the_cell_asked_about_is_outlined(size: int) -> None:
    (axes,) = figure(size).axes
    pixels = np.asarray(axes.get_images()[0].get_array())
    width = pixels.shape[1] // 8
    for column in range(8):
        picture = pixels[:size, column * width :][:, :size]
        outlined = (picture == (255, 64, 0)).all(-1)  # the image itself is black
        assert outlined.any()
        top, left = size // 2 * (column % 4 // 2), size // 2 * (column % 2)
        rows, columns = np.nonzero(outlined)
        assert (rows.min(), rows.max()) == (top, top + size // 2 - 1)
        assert (columns.min(), columns.max()) == (left, left + size // 2 - 1)
        assert not outlined[top + size // 4, left + size // 4]


def test_questions_that_a_slow_method_was_not_asked_are_white() -> None:
    (axes,) = figure().axes
    pixels = np.asarray(axes.get_images()[0].get_array())
    height, width = pixels.shape[0] // 3, pixels.shape[1] // 2
    assert (pixels[2 * height :, width:] == 255).all()
    assert not (pixels[2 * height :, :width] == 255).all()
