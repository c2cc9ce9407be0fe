"""Posterior predictive checks, where it is known which pixels the classifier does not mind."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from saliency_vae.distributions import DiagonalNormal
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.evaluation.uncertainty.deviations import ROLES, SAMPLED
from saliency_vae.evaluation.uncertainty.predictive import (
    CONDITIONS,
    SHARES,
    PredictiveCheck,
    check_predictions,
    condition,
)
from saliency_vae.evaluation.uncertainty.predictive_report import assess_predictions
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.perturbations import blurred
from tests.conftest import blob_classifier, blobs
from tests.helpers import free_pixels


def checked(*, knows: bool, baseline: str = "blur") -> PredictiveCheck:
    check = check_predictions(
        free_pixels.explained(knows=knows), free_pixels.classifier(), baseline, samples=2
    )
    assert check is not None
    return check


@pytest.fixture(scope="module")
def checks() -> Mapping[bool, PredictiveCheck]:
    return {knows: checked(knows=knows) for knows in (True, False)}


def report(check: PredictiveCheck) -> UncertaintyReport:
    return assess_predictions(check, "blur", resampling=Resampling())


def test_a_posterior_that_knows_what_is_free_passes(
    checks: Mapping[bool, PredictiveCheck],
) -> None:
    said, *by_scaling = report(checks[True]).verdicts
    assert said.judgement == "note"
    assert "where the mean map keeps 10 of 10 decisions" in said.text
    judged = dict(zip(CONDITIONS, by_scaling, strict=True))
    assert [judged[condition(share)].judgement for share in (0.25, 0.5)] == ["better"] * 2
    assert "sampled maps lose 0.000 of the decisions" in judged["50"].text
    assert ": at most half (" in judged["50"].text


def test_a_posterior_that_varies_where_it_matters_fails(
    checks: Mapping[bool, PredictiveCheck],
) -> None:
    _, *by_scaling = report(checks[False]).verdicts
    judged = dict(zip(CONDITIONS, by_scaling, strict=True))
    assert judged["25"].judgement == "worse"
    assert "the best control, reversed variances, 0.000" in judged["25"].text
    assert ": more than half (" in judged["25"].text


def test_sampled_maps_and_controls_change_the_same_pixels(
    checks: Mapping[bool, PredictiveCheck],
) -> None:
    check = checks[True]
    number = round(check["fraction"] * free_pixels.SIDE**2)
    for share in SHARES[:2]:  # half of its pixels the posterior does not always change
        for name, seen in check["drawn"][condition(share)].items():
            assert seen["changed"].shape == (free_pixels.IMAGES, 2)
            expected = torch.full_like(seen["changed"], round(share * number) / number)
            torch.testing.assert_close(seen["changed"], expected, msg=name)


def test_numbers_are_those_of_the_images_whose_mean_map_keeps_the_decision(
    checks: Mapping[bool, PredictiveCheck],
) -> None:
    check = checks[False]
    kept = check["mean"]["kept"].clone()
    kept[:2] = 0
    some: PredictiveCheck = {**check, "mean": {**check["mean"], "kept": kept}}
    found = report(some)
    for measured in ("kept", "probability"):
        seen = check["drawn"]["25"][SAMPLED][measured]
        interval = found.intervals[f"samples_{measured}_25_blur"][SAMPLED]
        assert float(interval.mean) == pytest.approx(float(seen[2:].double().mean()))
        assert interval.low <= interval.mean <= interval.high
    curve = found.curves["predictive_blur"]
    assert curve["changed"] == [0.0, *SHARES]
    assert curve.keys() == {"changed", *ROLES}
    assert curve[SAMPLED][2] == float(found.intervals["samples_kept_25_blur"][SAMPLED].mean)


def test_necessity_by_the_textbook() -> None:
    classifier, images = blob_classifier(), blobs(5)
    decision = classifier.decide(classifier(images))
    masks = torch.rand(5, 3, *images.shape[2:], generator=torch.Generator().manual_seed(0)) > 0.5
    found = DecisionViews(classifier, images, decision, blurred(images)).necessity(masks)
    for i, image in enumerate(images):
        label = classifier(image[None]).argmax()
        for j, mask in enumerate(masks[i]):
            view = torch.where(mask, blurred(image[None])[0], image)
            whole, rest = classifier(torch.stack([image, view])).softmax(1)[:, label]
            assert float(found[i, j]) == pytest.approx(float(whole - rest), abs=1e-5)
    assert found.std() > 0.01


def test_the_necessity_of_sampled_maps_is_reported(checks: Mapping[bool, PredictiveCheck]) -> None:
    drops = torch.linspace(0, 1, 2 * free_pixels.IMAGES).view(-1, 2)
    assert checks[True]["necessity"].shape == drops.shape
    found = report({**checks[True], "necessity": drops})
    interval = found.intervals["samples_necessity_unscaled_blur"]
    assert interval.keys() == {SAMPLED}
    assert float(interval[SAMPLED].mean) == pytest.approx(0.5)


def test_a_posterior_of_no_variance_passes_nothing(
    checks: Mapping[bool, PredictiveCheck],
) -> None:
    check = checks[True]
    still = {**check["drawn"]["unscaled"][SAMPLED], "changed": torch.zeros(10, 2)}
    drawn = {**check["drawn"], "unscaled": {**check["drawn"]["unscaled"], SAMPLED: still}}
    found = report({**check, "drawn": drawn})  # type: ignore[typeddict-item]
    assert found.verdicts[0].judgement == "worse"
    assert "this posterior hardly varies" in found.verdicts[0].text
    assert all(verdict.judgement != "better" for verdict in found.verdicts)


@pytest.mark.parametrize("baseline", ["blur", "inpaint"])
def test_the_smallest_share_that_keeps_the_decisions_is_kept(baseline: str) -> None:
    """45 of 256 free pixels keep them: more than a tenth, less than a fifth."""
    assert checked(knows=True, baseline=baseline)["fraction"] == 0.2


def test_maps_that_keep_too_few_decisions_are_not_checked() -> None:
    """The most salient half of the pixels speaks against the decision."""
    against = [
        replace(batch, posterior=DiagonalNormal(mean, torch.zeros_like(mean)))
        for batch in free_pixels.explained(knows=True)
        for mean in [-batch.posterior.mean]
    ]
    assert check_predictions(against, free_pixels.classifier(), "blur", samples=1) is None
    found = assess_predictions(None, "inpaint", resampling=Resampling())
    assert "fewer than half of the decisions up to 80%" in found.left_out[0]
