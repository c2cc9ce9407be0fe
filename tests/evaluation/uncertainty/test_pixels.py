"""What is said of an uncertainty, on evidence whose truth is known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.data.batch import Batch
from saliency_vae.distributions import DiagonalNormal
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.uncertainty.pixels import (
    STDDEV,
    UNCERTAINTY,
    Evidence,
    add_pixels,
    gather_evidence,
    included,
    independent_runs,
    pixel_errors,
    pixel_uncertainties,
)
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.models.explainer import save_explainer
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

N, SIDE = 12, 10
DISTANCE, FAINT = "control, nearness to the threshold", "control, lack of saliency"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def evidence(ours: Tensor | None = None, control: Tensor | None = None, runs: int = 3) -> Evidence:
    """Maps near their references; uncertainties are noise unless given."""
    mean = noise(N, SIDE, SIDE)
    references = mean + 0.7 * noise(runs, N, SIDE, SIDE, seed=1)
    return Evidence(
        {
            UNCERTAINTY: noise(N, SIDE, SIDE, seed=2) if ours is None else ours,
            STDDEV: noise(N, SIDE, SIDE, seed=3),
            DISTANCE: noise(N, SIDE, SIDE, seed=4) if control is None else control,
            FAINT: noise(N, SIDE, SIDE, seed=5),
        },
        mean,
        torch.full((N, SIDE, SIDE), 0.1),
        references,
    )


def error(kind: str) -> Tensor:
    return pixel_errors(evidence())[kind].view(N, SIDE, SIDE)


def judged(given: Evidence) -> Results:
    results = Results()
    add_pixels(results, given)
    return results


def test_errors_against_a_slow_reference() -> None:
    given = evidence()
    found = pixel_errors(given)
    k = 10
    for image in range(3):
        mean = given.mean[image].flatten()
        ours = set(mean.argsort(descending=True)[:k].tolist())
        runs = [
            set(reference[image].flatten().argsort(descending=True)[:k].tolist())
            for reference in given.references
        ]
        orders = [
            reference[image].flatten().argsort(descending=True).tolist()
            for reference in given.references
        ]
        mean_rank = [sum(o.index(pixel) for o in orders) / len(orders) for pixel in range(100)]
        target = sorted(range(100), key=lambda pixel: mean_rank[pixel])
        order = mean.argsort(descending=True).tolist()
        for pixel in range(0, 100, 7):
            share = sum(pixel in run for run in runs) / len(runs)
            assert float(found["top"][image, pixel]) == pytest.approx(abs((pixel in ours) - share))
            distance = abs(order.index(pixel) - target.index(pixel)) / 100
            assert float(found["rank"][image, pixel]) == pytest.approx(distance)


def test_no_reference_counts_more_for_its_scale() -> None:
    given = evidence()
    scale = torch.tensor([1.0, 1000.0, 0.01])[:, None, None, None]
    scaled = replace(given, references=scale * given.references - 5 * scale)
    for kind, expected in pixel_errors(given).items():
        torch.testing.assert_close(pixel_errors(scaled)[kind], expected)


def test_shares_sum_to_the_kept_pixels() -> None:
    shares = included(evidence().references)
    torch.testing.assert_close(shares.sum((1, 2)), torch.full((N,), 10.0, dtype=torch.float64))


def test_an_uncertainty_that_is_the_error_beats_its_control() -> None:
    results = judged(evidence(ours=error("top")))
    first, *_ = results.uncertainty_findings
    assert first.verdict == "better"
    assert first.text.startswith("Per pixel, our uncertainty P(1-P) beats the best control, ")
    assert "Spearman 1.000 against" in first.text
    assert results.uncertainty["spearman_top"][UNCERTAINTY].mean == pytest.approx(1)
    assert results.uncertainty["ause_top"][UNCERTAINTY].mean == pytest.approx(0)
    assert results.uncertainty["ause_top"][DISTANCE].mean > 0.1


def test_a_control_that_is_the_error_beats_ours() -> None:
    first, *_ = judged(evidence(control=error("top"))).uncertainty_findings
    assert first.verdict == "worse"
    assert "is beaten by the best control, nearness to the threshold" in first.text
    assert first.text.endswith("It is no better than chance.")


def test_two_that_are_the_same_cannot_be_told_apart() -> None:
    results = judged(evidence(ours=error("rank"), control=error("rank")))
    found = results.uncertainty_findings[2]
    assert found.verdict == "level"
    assert "P(1-P) cannot be told from the best control" in found.text
    assert "chance" not in found.text


def test_few_images_are_no_ground_for_a_verdict() -> None:
    given = evidence(ours=error("top"))
    few = Evidence(
        {name: values[:9] for name, values in given.uncertainties.items()},
        given.mean[:9],
        given.inclusion[:9],
        given.references[:, :9],
    )
    assert [found.verdict for found in judged(few).uncertainty_findings] == ["note", "note"]
    assert "(9)" in judged(few).uncertainty_findings[0].text


def test_what_points_the_wrong_way_is_not_good_because_its_control_is_worse() -> None:
    bad = evidence(ours=-error("top"))
    worse = {name: -error("top") - 0.01 * noise(N, SIDE, SIDE) for name in (DISTANCE, FAINT)}
    results = judged(replace(bad, uncertainties={**bad.uncertainties, **worse}))
    found = results.uncertainty_findings[0]
    assert found.verdict != "better"
    assert found.text.endswith("It is no better than chance.")


def test_both_uncertainties_are_judged_by_both_errors() -> None:
    results = judged(evidence())
    texts = [finding.text for finding in results.uncertainty_findings]
    assert [("stddev" in text, "rank" in text) for text in texts] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    assert set(results.uncertainty) == {
        "spearman_top",
        "ause_top",
        "spearman_rank",
        "ause_rank",
        "ece",
    }
    curves = results.uncertainty_curves
    assert set(curves) == {"sparsification_top", "sparsification_rank", "reliability"}
    assert curves["sparsification_top"]["oracle"][0] == 1
    assert min(curves["sparsification_top"]["oracle"]) == curves["sparsification_top"]["oracle"][-1]
    json.dumps(curves, allow_nan=False)


def test_calibration_of_a_calibrated_probability() -> None:
    """The share of many runs drawn from the posterior is its inclusion probability."""
    mean, stddev = noise(N, SIDE, SIDE), 0.4
    posterior = DiagonalNormal(mean, torch.full_like(mean, 2 * math.log(stddev)))
    references = mean + stddev * noise(400, N, SIDE, SIDE, seed=1)
    inclusion = posterior.inclusion_probability(0.1)
    uncertainties = pixel_uncertainties(posterior)
    results = judged(Evidence(uncertainties, mean, inclusion, references))
    calibrated = results.uncertainty["ece"][UNCERTAINTY]
    assert 0 < calibrated.mean < 0.03
    assert calibrated.low <= calibrated.mean + 1e-3
    points = results.uncertainty_curves["reliability"]
    assert sum(points["share"]) == pytest.approx(1)
    results = judged(Evidence(uncertainties, mean, 1 - inclusion, references))
    assert results.uncertainty["ece"][UNCERTAINTY].mean > 0.5


def test_pixel_uncertainties() -> None:
    mean = noise(2, SIDE, SIDE)
    posterior = DiagonalNormal(mean, noise(2, SIDE, SIDE, seed=1))
    found = pixel_uncertainties(posterior)
    probability = posterior.inclusion_probability(0.1)
    torch.testing.assert_close(found[UNCERTAINTY], probability * (1 - probability))
    torch.testing.assert_close(found[STDDEV], posterior.stddev)
    border = mean.flatten(1).sort(descending=True).values[:, 9]
    torch.testing.assert_close(found[DISTANCE], -(mean - border[:, None, None]).abs())
    assert (found[DISTANCE].flatten(1).max(1).values == 0).all()  # at the threshold itself
    assert torch.equal(descending_rank(found[FAINT]), descending_rank(-mean))


# ---- independent runs


def still(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return batch["image"].mean(1)


def test_evidence_is_gathered_in_order() -> None:
    explainer = trained_explainer(encoder=UNET)
    batches: list[Batch] = [{"image": blobs(5)[:3]}, {"image": blobs(5)[3:]}]
    found = gather_evidence(batches, explainer, blob_classifier(), [still, still], still)
    assert found.references.shape == (2, 5, 16, 16)
    torch.testing.assert_close(found.references[1], blobs(5).mean(1))
    torch.testing.assert_close(found.mean, explainer(blobs(5)).mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.uncertainties["control, VarGrad"], blobs(5).mean(1))
    alone = gather_evidence(batches, explainer, blob_classifier(), [still])
    assert "control, VarGrad" not in alone.uncertainties


def test_runs_differ_by_their_noise_and_repeat() -> None:
    explainer = trained_explainer(encoder=UNET)
    batch, classifier = Batch(image=blobs(2)), blob_classifier()
    runs = independent_runs(explainer, number=2, steps=5, seed=0)
    again = independent_runs(explainer, number=1, steps=5, seed=1)
    first, second, third = (run(batch, classifier) for run in (*runs, *again))
    assert not torch.allclose(first, second)
    assert torch.equal(second, third)
    assert first.shape == (2, 16, 16)


def identity(sha256: str) -> ClassifierIdentity:
    return ClassifierIdentity("a", None, "softmax", (0.0,), (1.0,), sha256)


def test_an_ensemble_runs_too(tmp_path: Path) -> None:
    explainer = trained_explainer(encoder=UNET, classifier=identity("a"))
    other = trained_explainer(encoder=UNET, classifier=identity("b"))
    for name, saved in (("same", explainer), ("other", other)):
        save_explainer(saved, tmp_path / name)
    (run,) = independent_runs(
        explainer, number=0, steps=1, seed=0, ensemble=[str(tmp_path / "same")]
    )
    maps = run({"image": blobs(2)}, blob_classifier())
    torch.testing.assert_close(maps, explainer(blobs(2)).mean, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"explainers of the same classifier. Found .*other"):
        independent_runs(explainer, number=0, steps=1, seed=0, ensemble=[str(tmp_path / "other")])
