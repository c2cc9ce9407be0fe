"""Only the name of an image can make its files impossible to write."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from saliency_vae.inference.outputs import Outputs
from saliency_vae.visualization import Entry, Explanation
from tests.helpers.explanations import explanation as explained
from tests.helpers.explanations import source


def explanation(name: str) -> Explanation:
    return explained(source(name, np.zeros((3, 16, 16), dtype=np.uint8)), torch.rand(3, 16, 16))


@pytest.mark.parametrize(
    "name", ["n" * 250, "taken.png/a.png", "taken", f"{'directory' * 40}/a.png"]
)
def test_a_name_that_no_file_can_have_breaks_the_image(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken.png").touch()
    (tmp_path / "taken.npz").mkdir()
    outputs = Outputs(tmp_path)
    broken = outputs.save(explanation(name))
    assert broken is not None
    assert broken.name == name
    assert broken.reason
    assert not outputs.done(name)
    assert outputs.save(explanation("b.png")) is None
    assert outputs.done("b.png")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_an_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail for all other images too."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr("saliency_vae.inference.outputs.np.savez_compressed", refuse)
    with pytest.raises(OSError, match="refused"):
        Outputs(tmp_path).save(explanation("a.png"))
    assert not Outputs(tmp_path).done("a.png")


def test_an_error_of_the_program_is_not_a_broken_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: object, **__: object) -> Entry:
        raise ValueError("a mistake in the program")

    monkeypatch.setattr(Entry, "of", wrong)
    with pytest.raises(ValueError, match="a mistake"):
        Outputs(tmp_path).save(explanation("a.png"))
