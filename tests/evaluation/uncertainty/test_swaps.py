"""The swap test, where it is known which patches the classifier does not mind."""

import pytest
import torch
from torch import Tensor

from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.uncertainty.pixels import (
    DISTANCE,
    FAINT,
    INCLUSION,
    SIGNAL_SPREAD,
    STDDEV,
)
from saliency_vae.evaluation.uncertainty.swap_report import assess_swaps
from saliency_vae.evaluation.uncertainty.swaps import Swaps, matched_spearman, swap_patches
from saliency_vae.metrics import spearman
from saliency_vae.perturbations import blurred
from tests.helpers import free_pixels
from tests.helpers.free_pixels import IMAGES, PATCH, SIDE


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def swapped(*, knows: bool, swaps: int = 64) -> Swaps:
    explained = free_pixels.explained(knows=knows)
    for batch in explained:
        batch.posterior.signal_spread = noise(*batch.posterior.mean.shape).abs()
    control = [{"small vargrad": noise(*batch.posterior.mean.shape)} for batch in explained]
    found = swap_patches(explained, free_pixels.classifier(), "blur", control, swaps=swaps)
    assert found is not None
    return found


def slow_effects(fraction: float, index: int) -> list[float]:
    """Change of the log-odds by each patch of an image of the first batch, in reading order."""
    batch, classifier = free_pixels.explained(knows=True)[0], free_pixels.classifier()
    image, side = batch.images[index], SIDE // PATCH
    patches = [
        (slice(y, y + PATCH), slice(x, x + PATCH))
        for y in range(0, SIDE, PATCH)
        for x in range(0, SIDE, PATCH)
    ]
    saliency = [float(batch.posterior.mean[index][patch].mean()) for patch in patches]
    kept = sorted(range(side**2), key=lambda place: -saliency[place])
    shown = set(kept[: round(fraction * side**2)])

    def log_odds(places: set[int]) -> float:
        view = blurred(image[None])[0].clone()
        for place in places:
            view[:, *patches[place]] = image[:, *patches[place]]
        against, speaks_for = classifier(view[None])[0].tolist()
        return float(speaks_for - against)

    before = log_odds(shown)
    return [abs(log_odds(shown ^ {place}) - before) for place in range(side**2)]


def test_effects_against_a_slow_reference() -> None:
    found = swapped(knows=True)
    assert found["side"] == PATCH
    for index in (0, 3):
        expected = torch.tensor(slow_effects(found["fraction"], index))
        torch.testing.assert_close(
            found["effect"][index].sort().values, expected.sort().values, atol=1e-4, rtol=1e-4
        )
    minds = free_pixels.minds(found["effect"])
    assert minds.sum(1).tolist() == [32] * IMAGES
    low, high = (found["uncertainties"][STDDEV][where] for where in (minds, ~minds))
    assert low.max() < high.min()  # so each value is that of the patch that was swapped


def test_uncertainty_that_is_high_where_the_classifier_does_not_mind_passes() -> None:
    report = assess_swaps(swapped(knows=True), "blur", resampling=Resampling())
    mine = report.intervals["swap_all_blur"]
    assert mine[STDDEV].mean > 0.5
    assert mine.keys() == {INCLUSION, STDDEV, SIGNAL_SPREAD, DISTANCE, "small vargrad", FAINT}
    judged = {verdict.text: verdict.judgement for verdict in report.verdicts}
    assert len(judged) == 4
    of_stddev = [judgement for text, judgement in judged.items() if STDDEV in text]
    assert of_stddev == ["better", "better"]


def test_uncertainty_that_is_high_where_it_matters_fails() -> None:
    report = assess_swaps(swapped(knows=False), "blur", resampling=Resampling())
    assert report.intervals["swap_all_blur"][STDDEV].mean < -0.5
    judged = [verdict.judgement for verdict in report.verdicts if STDDEV in verdict.text]
    assert judged == ["worse", "worse"]


def test_some_patches_are_drawn_and_few_images_not_judged() -> None:
    found = swapped(knows=True, swaps=10)
    assert found["effect"].shape == (IMAGES, 10)
    few: Swaps = {
        **found,
        "uncertainties": {name: values[:3] for name, values in found["uncertainties"].items()},
        "effect": found["effect"][:3],
    }
    (verdict,) = assess_swaps(few, "blur", resampling=Resampling()).verdicts
    assert "not compared" in verdict.text
    assert "fewer than half" in assess_swaps(None, "blur", resampling=Resampling()).left_out[0]


def test_matched_correlation_against_a_slow_reference() -> None:
    first, second, matched = (noise(2, 17, seed=seed) for seed in range(3))
    found = matched_spearman(first, second, matched)
    for row in range(2):
        order = matched[row].argsort(descending=True).tolist()
        agreeing = [
            (first[row, one] > first[row, other]) == (second[row, one] > second[row, other])
            for one, other in zip(order[:16:2], order[1:16:2], strict=True)
        ]
        assert found[row].item() == pytest.approx(2 * sum(map(int, agreeing)) / 8 - 1)


def test_what_saliency_alone_explains_is_not_counted() -> None:
    saliency = noise(20, 64)
    first, second = saliency + 0.1 * noise(20, 64, seed=1), saliency + 0.1 * noise(20, 64, seed=2)
    assert spearman(first, second).mean() > 0.9
    assert matched_spearman(first, second, saliency).mean() < 0.3
