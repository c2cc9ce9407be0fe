"""Images corrupted level by level, and the verdict on the confidence."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.corruption import (
    CORRUPTIONS,
    LEVELS,
    OUT_OF_DEPTH,
    assess_corruption,
    clutter,
    judge_levels,
)
from saliency_vae.training.depth import fit_depth
from tests.conftest import Blobs, blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

Corrupt = Callable[[Tensor, float, torch.Generator], Tensor]


def images(number: int, batch_size: int) -> Images:
    cpu = torch.device("cpu")
    blobs = Blobs(number, seed=3)
    return Images(blobs, name="blobs", batch_size=batch_size, num_workers=0, device=cpu)


def corrupted(corrupt: Corrupt, strength: float) -> Tensor:
    return corrupt(blobs(4), strength, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_grows_from_none(name: str) -> None:
    images = blobs(4)
    distances = [
        float((corrupted(CORRUPTIONS[name], level) - images).abs().mean())
        for level in (0.0, 0.5, 1.0)
    ]
    assert 0 == distances[0] < distances[1] < distances[2]
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


DOWN = torch.linspace(0.9, 0.4, LEVELS)
IMAGES = 40


def measured(
    sure: Tensor, right: Tensor, unsure: Tensor = DOWN, *, declared: int | None = None
) -> Tensor:
    """Scores of images that are all alike, (levels, 4, N).

    So many are declared out of depth at the strongest level; by default nothing tells.
    """
    alike = torch.stack([sure, right, unsure], dim=1)[..., None].expand(-1, -1, IMAGES)
    unlike = torch.full((LEVELS, 1, IMAGES), torch.nan if declared is None else 0.0)
    if declared is not None:
        unlike[-1, :, :declared] = 1
    return torch.cat([alike, unlike], dim=1)


@pytest.mark.parametrize(
    ("sure", "right", "judgement", "how"),
    [
        (DOWN, DOWN - 0.09, "better", "at most 0.090 apart"),
        (DOWN, DOWN - 0.2, "worse", "overconfident by 0.200 at the strongest level"),
        (torch.linspace(0.95, 0.93, LEVELS), DOWN, "worse", "overconfident by 0.530"),
        (DOWN, DOWN + 0.05, "better", "at most 0.050 apart"),
        (DOWN - 0.2, DOWN, "note", "up to 0.200 apart"),  # not trusted enough: no danger
        (
            torch.full((LEVELS,), 0.5),
            torch.linspace(0.55, 0.5, LEVELS),
            "note",
            "at most 0.050 apart",
        ),
    ],
)
def test_confidence_must_fall_as_far_as_agreement(
    sure: Tensor, right: Tensor, judgement: str, how: str
) -> None:
    found = judge_levels("noise", measured(sure, right))
    assert found.judgement == judgement
    assert f": {how}" in found.text
    assert f"mean confidence goes from {sure[0]:.3f} to {sure[-1]:.3f} and" in found.text
    kept = f"keeps the decision at 5 % of the pixels from {right[0]:.3f} to {right[-1]:.3f}: "
    assert kept in found.text


def test_correlations_of_the_confidence_and_of_the_control_are_given() -> None:
    text = judge_levels("noise", measured(DOWN, DOWN.square())).text
    assert "declared" not in text
    assert text.endswith(
        "Over 6 levels, the Spearman correlation with that share is +1.00 for the confidence and "
        "-1.00 for the control, the entropy of the prediction."
    )
    assert judge_levels("noise", measured(DOWN, DOWN, -DOWN)).text.endswith(
        "+1.00 for the control, the entropy of the prediction."
    )


@pytest.mark.parametrize(
    ("declared", "judgement", "how"),
    [
        (0, "worse", "overconfident by 0.350 at the strongest level"),
        (IMAGES - 10, "worse", "overconfident by 0.350 at the strongest level"),
        (IMAGES - 9, "better", "at most 0.000 apart"),  # too few are left to judge by
    ],
)
def test_what_is_declared_out_of_depth_does_not_count(
    declared: int, judgement: str, how: str
) -> None:
    sure, right = DOWN.clone(), DOWN.clone()
    sure[-1], right[-1] = 0.45, 0.1
    found = judge_levels("noise", measured(sure, right, declared=declared))
    assert found.judgement == judgement
    share = f"as 0.000 are without it and {declared / IMAGES:.3f} at the strongest level"
    assert f"{how} on images that are not declared out of depth, {share}." in found.text


@pytest.mark.parametrize(("number", "judged"), [(9, False), (10, True)])
def test_every_corruption_is_measured(number: int, judged: bool) -> None:
    explainer = trained_explainer(encoder=UNET)
    report = assess_corruption(
        images(number, 3), explainer, blob_classifier(), resampling=Resampling()
    )
    assert len(report.verdicts) == len(CORRUPTIONS)
    assert report.roles == {"confidence": Role.EXPLAINER}
    assert OUT_OF_DEPTH not in report.curves["corruption_noise"]
    for found in report.verdicts:
        assert ("fewer than 10 independent images (9)" in found.text) is not judged
    for name in CORRUPTIONS:
        curve = report.curves[f"corruption_{name}"]
        assert {len(values) for values in curve.values()} == {LEVELS}
        clean = explainer(blobs(number)).confidence.mean().detach()
        assert curve["confidence"][0] == pytest.approx(float(clean), abs=1e-4)


def test_images_of_few_groups_are_not_judged_by() -> None:
    explainer, three = trained_explainer(encoder=UNET), Resampling(groups=torch.arange(12) % 3)
    report = assess_corruption(images(12, 12), explainer, blob_classifier(), resampling=three)
    for found in report.verdicts:
        assert "fewer than 10 independent images (3)" in found.text


def test_the_batches_do_not_matter() -> None:
    explainer = trained_explainer(encoder=UNET)
    whole, parts = (
        assess_corruption(
            images(12, size), explainer, blob_classifier(), resampling=Resampling()
        ).curves
        for size in (12, 5)
    )
    for name in CORRUPTIONS:
        kept, again = (found[f"corruption_{name}"]["confidence"] for found in (whole, parts))
        assert again == pytest.approx(kept, abs=1e-5)


def test_the_share_out_of_depth_is_measured() -> None:
    explainer = trained_explainer(encoder=UNET)
    assert explainer.confidence is not None
    fit_depth(explainer.confidence.depth, explainer.confidence.features(blobs(40)).detach())
    report = assess_corruption(
        images(40, 40), explainer, blob_classifier(), resampling=Resampling()
    )
    shares = report.curves["corruption_noise"][OUT_OF_DEPTH]
    assert shares[0] == pytest.approx(float(explainer(blobs(40)).out_of_depth.float().mean()))
    assert shares[0] <= 0.1 < shares[-1]  # of a network that is not trained
