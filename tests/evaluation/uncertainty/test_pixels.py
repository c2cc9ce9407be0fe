"""Verdicts on the uncertainty of pixels, where it is known what they must be."""

import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.data.batch import Batch
from saliency_vae.distributions import DiagonalNormal
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.pixels import (
    DISTANCE,
    FAINT,
    INCLUSION,
    STDDEV,
    PixelMaps,
    assess_pixels,
    gather_pixel_maps,
    included,
    pixel_errors,
    pixel_uncertainties,
)
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.rivals import (
    CONFORMAL,
    RELAX,
    REPEAT,
    VARGRAD,
    Rival,
    named,
    relax_and_repeat,
)
from saliency_vae.metrics.ranking import descending_rank
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

N, SIDE = 12, 10


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixel_maps(
    inclusion: Tensor | None = None, control: Tensor | None = None, runs: int = 3
) -> PixelMaps:
    """Maps near their references; uncertainties are noise unless given."""
    mean = noise(N, SIDE, SIDE)
    references = mean + 0.7 * noise(runs, N, SIDE, SIDE, seed=1)
    return PixelMaps(
        {
            INCLUSION: noise(N, SIDE, SIDE, seed=2) if inclusion is None else inclusion,
            STDDEV: noise(N, SIDE, SIDE, seed=3),
            DISTANCE: noise(N, SIDE, SIDE, seed=4) if control is None else control,
            FAINT: noise(N, SIDE, SIDE, seed=5),
        },
        mean,
        torch.full((N, SIDE, SIDE), 0.1),
        references,
    )


def error(kind: str) -> Tensor:
    return pixel_errors(pixel_maps())[kind].view(N, SIDE, SIDE)


def judged(given: PixelMaps) -> UncertaintyReport:
    return assess_pixels(given, resampling=Resampling())


def test_errors_against_a_slow_reference() -> None:
    given = pixel_maps()
    found = pixel_errors(given)
    k = 10
    for image in range(3):
        mean = given.mean[image].flatten()
        mine = set(mean.argsort(descending=True)[:k].tolist())
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
            assert float(found["top"][image, pixel]) == pytest.approx(abs((pixel in mine) - share))
            distance = abs(order.index(pixel) - target.index(pixel)) / 100
            assert float(found["rank"][image, pixel]) == pytest.approx(distance)


def test_no_reference_counts_more_for_its_scale() -> None:
    given = pixel_maps()
    scale = torch.tensor([1.0, 1000.0, 0.01])[:, None, None, None]
    scaled = replace(given, references=scale * given.references - 5 * scale)
    for kind, expected in pixel_errors(given).items():
        torch.testing.assert_close(pixel_errors(scaled)[kind], expected)


def test_shares_sum_to_the_kept_pixels() -> None:
    shares = included(pixel_maps().references)
    torch.testing.assert_close(shares.sum((1, 2)), torch.full((N,), 10.0, dtype=torch.float64))


def test_an_uncertainty_that_is_the_error_beats_its_control() -> None:
    report = judged(pixel_maps(inclusion=error("top")))
    first, *_ = report.verdicts
    assert first.judgement == "better"
    assert first.text.startswith("Per pixel, this explainer's P(1-P) beats the best rival, conf")
    assert "Spearman 1.000 against" in first.text
    assert report.intervals["spearman_top"][INCLUSION].mean == pytest.approx(1)
    assert report.intervals["ause_top"][INCLUSION].mean == pytest.approx(0)
    assert report.intervals["ause_top"][DISTANCE].mean > 0.1


def test_a_control_that_is_the_error_beats_the_explainer() -> None:
    first, *_ = judged(pixel_maps(control=error("top"))).verdicts
    assert first.judgement == "worse"
    assert "is beaten by the best control, nearness to the threshold" in first.text
    assert first.text.endswith("It is no better than chance.")


def test_two_that_are_the_same_cannot_be_told_apart() -> None:
    report = judged(pixel_maps(inclusion=error("rank"), control=error("rank")))
    found = report.verdicts[2]
    assert found.judgement == "level"
    assert "P(1-P) is level with the best control" in found.text
    assert "chance" not in found.text


def test_few_images_are_no_ground_for_a_verdict() -> None:
    given = pixel_maps(inclusion=error("top"))
    few = PixelMaps(
        {name: values[:9] for name, values in given.uncertainties.items()},
        given.mean[:9],
        given.inclusion[:9],
        given.references[:, :9],
    )
    assert [found.judgement for found in judged(few).verdicts] == ["note", "note"]
    assert "(9)" in judged(few).verdicts[0].text


def test_what_points_the_wrong_way_is_not_good_because_its_control_is_worse() -> None:
    bad = pixel_maps(inclusion=-error("top"))
    worse = {name: -error("top") - 0.01 * noise(N, SIDE, SIDE) for name in (DISTANCE, FAINT)}
    report = judged(replace(bad, uncertainties={**bad.uncertainties, **worse}))
    found = report.verdicts[0]
    assert found.judgement != "better"
    assert found.text.endswith("It is no better than chance.")


def test_both_uncertainties_are_judged_by_both_errors() -> None:
    report = judged(pixel_maps())
    assert [name for name, role in report.roles.items() if role is Role.CONTROL] == [
        DISTANCE,
        FAINT,
    ]
    assert report.roles[CONFORMAL] is Role.RIVAL
    texts = [verdict.text for verdict in report.verdicts]
    assert [(STDDEV in text, "rank" in text) for text in texts] == [
        (False, False),
        (True, False),
        (False, True),
        (True, True),
    ]
    assert set(report.intervals) == {
        "covered",
        "spearman_top",
        "ause_top",
        "aurc_top",
        "spearman_rank",
        "ause_rank",
        "aurc_rank",
        "ece",
        "ece_undecided",
    }
    curves = report.curves
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
    report = judged(PixelMaps(uncertainties, mean, inclusion, references))
    calibrated = report.intervals["ece"][INCLUSION]
    assert 0 < calibrated.mean < 0.03
    assert calibrated.low <= calibrated.mean + 1e-3
    undecided = report.intervals["ece_undecided"][INCLUSION]
    assert calibrated.mean < undecided.mean < 0.05  # pixels that are certain are left out
    points = report.curves["reliability"]
    assert sum(points["share"]) == pytest.approx(1)
    report = judged(PixelMaps(uncertainties, mean, 1 - inclusion, references))
    assert report.intervals["ece"][INCLUSION].mean > 0.5
    report = judged(PixelMaps(uncertainties, mean, inclusion.round(), references))
    assert "ece_undecided" not in report.intervals  # no pixel is undecided


def test_pixel_uncertainties() -> None:
    mean = noise(2, SIDE, SIDE)
    posterior = DiagonalNormal(mean, noise(2, SIDE, SIDE, seed=1))
    found = pixel_uncertainties(posterior)
    probability = posterior.inclusion_probability(0.1)
    torch.testing.assert_close(found[INCLUSION], probability * (1 - probability))
    torch.testing.assert_close(found[STDDEV], posterior.stddev)
    border = mean.flatten(1).sort(descending=True).values[:, 9]
    torch.testing.assert_close(found[DISTANCE], -(mean - border[:, None, None]).abs())
    assert (found[DISTANCE].flatten(1).max(1).values == 0).all()  # at the threshold itself
    assert torch.equal(descending_rank(found[FAINT]), descending_rank(-mean))


def still(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return batch["image"].mean(1)


def test_maps_are_gathered_in_order() -> None:
    explainer = trained_explainer(encoder=UNET)
    batches: list[Batch] = [{"image": blobs(5)[:3]}, {"image": blobs(5)[3:]}]
    rivals: list[Rival] = [named(VARGRAD, still), partial(relax_and_repeat, masks=6, repeats=2)]
    found = gather_pixel_maps(batches, explainer, blob_classifier(), [still, still], rivals)
    assert found.references.shape == (2, 5, 16, 16)
    torch.testing.assert_close(found.references[1], blobs(5).mean(1))
    torch.testing.assert_close(found.mean, explainer(blobs(5)).mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.uncertainties[VARGRAD], blobs(5).mean(1))
    assert (found.passes[STDDEV], found.passes[VARGRAD], found.passes[RELAX]) == (0, 0, 6)
    assert found.passes[REPEAT] == 6  # as many as alone, though it shares them with RELAX
    alone = gather_pixel_maps(batches, explainer, blob_classifier(), [still], [])
    assert VARGRAD not in alone.uncertainties
    shown = judged(replace(found, references=found.references + 0.1 * noise(2, 5, 16, 16)))
    assert [float(value) for value in shown.intervals["passes"][RELAX]] == [6, 6, 6]
