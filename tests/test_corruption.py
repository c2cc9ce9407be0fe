"""Images corrupted step by step, and what is said of confidence under it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saliency_vae.corruption import CORRUPTIONS, LEVELS, _finding, add_corruption, clutter
from saliency_vae.results import Results
from tests.conftest import blob_classifier, blobs
from tests.test_explainer import UNET, trained_explainer

Corrupt = Callable[[Tensor, float, torch.Generator], Tensor]


def corrupted(corrupt: Corrupt, strength: float) -> Tensor:
    return corrupt(blobs(4), strength, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_grows_from_none(name: str) -> None:
    images = blobs(4)
    distances = [
        float((corrupted(CORRUPTIONS[name], level) - images).abs().mean())
        for level in (0.0, 0.5, 1.0)
    ]
    assert distances[0] == 0 or (name == "noise" and distances[0] < 1e-6)
    assert distances[0] < distances[1] < distances[2]
    full = corrupted(CORRUPTIONS[name], 1.0)
    assert full.min() >= 0
    assert full.max() <= 1
    assert torch.equal(images, blobs(4))  # the images given stay as they are


def test_clutter_comes_from_the_other_images() -> None:
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    found = clutter(images, 1.0, torch.Generator().manual_seed(0))
    assert 0 < found[0].mean() < 1
    assert 0 < found[1].mean() < 1
    assert set(found.flatten().tolist()) == {0, 1}


def test_what_falls_together_is_told_from_what_does_not() -> None:
    down, up = torch.linspace(1, 0, LEVELS), torch.linspace(0, 1, LEVELS)
    assert _finding("noise", down, down.square()).verdict == "better"
    assert "Spearman over 6 levels +1.00" in _finding("noise", down, down.square()).text
    assert _finding("noise", up, down).verdict == "worse"


def test_every_corruption_is_measured() -> None:
    results = Results()
    batches = [{"image": blobs(5)[:3]}, {"image": blobs(5)[3:]}]
    explainer = trained_explainer(encoder=UNET)
    add_corruption(results, batches, explainer, blob_classifier())  # type: ignore[arg-type]
    assert len(results.uncertainty_findings) == len(CORRUPTIONS)
    for name in CORRUPTIONS:
        curve = results.uncertainty_curves[f"corruption_{name}"]
        assert {len(values) for values in curve.values()} == {LEVELS}
        clean = explainer(blobs(5)).confidence.mean().detach()
        assert curve["ours, confidence"][0] == pytest.approx(float(clean), abs=1e-4)
