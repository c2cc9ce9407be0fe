"""Several explainers in one comparison."""

from pathlib import Path

import pytest
import torch

from saliency_vae.evaluation.explainers import load_explainers, names_of, separate
from saliency_vae.models import save_explainer
from tests.models.test_explainer import UNET, trained_explainer


def test_sources_are_separated_at_commas(tmp_path: Path) -> None:
    assert separate("a, b/c,owner/name") == ["a", "b/c", "owner/name"]
    (tmp_path / "a,b").mkdir()
    assert separate(str(tmp_path / "a,b")) == [str(tmp_path / "a,b")]
    with pytest.raises(ValueError, match="none of them empty"):
        separate("a,,b")


def test_names_are_different_and_can_be_typed() -> None:
    sources = ["x/explainer", "runs/seed 1/explainer", "runs/b-c", "other/b-c", "explainer"]
    assert names_of(sources) == ["explainer", "seed_1", "b_c", "b_c_2", "another"]


def test_they_are_loaded_by_name(tmp_path: Path) -> None:
    for name in ("first", "second"):
        save_explainer(trained_explainer(encoder=UNET), tmp_path / name)
    setting = f"{tmp_path / 'first'},{tmp_path / 'second'}"
    loaded = load_explainers(setting, torch.device("cpu"))
    assert list(loaded) == ["explainer", "second"]
