"""Verdicts on the confidence in explanations, where it is known what they must be."""

import math
import statistics
from functools import partial

import pytest
import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.batch import Batch
from saliency_vae.distributions import DiagonalNormal
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.images import (
    AREA,
    DEEP,
    DISAGREEMENT,
    ENTROPY,
    SUFFICIENCY,
    UNCONFIDENCE,
    area,
    assess_images,
    assess_selection,
    deep_uncertainty,
    entropy,
    gather_uncertainties,
)
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.rivals import VARGRAD
from saliency_vae.models import ConditionalUNet
from saliency_vae.perturbations import Blur
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

FAILED = torch.arange(30) % 3 == 0
AGAINST_CHANCE = "It is no better than chance."


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def judged(
    mine: Tensor, control: Tensor, insertion: Tensor, failed: Tensor = FAILED
) -> UncertaintyReport:
    uncertainties = {UNCONFIDENCE: mine, ENTROPY: control, AREA: noise(len(failed), seed=9)}
    return assess_images(uncertainties, failed, insertion, resampling=Resampling())


def test_confidence_that_predicts_failures_beats_the_controls() -> None:
    found = judged(FAILED.float(), noise(30), torch.where(FAILED, 0.2, 0.9))
    auroc, calibration, selective = found.verdicts
    assert auroc.judgement == "better"
    assert "this explainer's confidence beats the best control, " in auroc.text
    assert "AUROC 1.000 against" in auroc.text
    assert found.intervals["auroc"][UNCONFIDENCE].mean == 1
    assert calibration.judgement == "note"
    assert "mean confidence is 0.667; 0.667 of" in calibration.text
    assert "calibration error 0.000" in calibration.text
    assert selective.judgement == "better"
    assert selective.text.startswith(
        "With the least confident 0, 10, 20 and 30 % of the explanations withheld, the insertion "
        "AUC of the others is 0.667, 0.719, 0.783, 0.867; at 20 %, this explainer's confidence "
        "beats the best control, "
    )
    assert ": 0.783 against " in selective.text
    curve = found.curves["selective"][UNCONFIDENCE]
    assert curve[0] == pytest.approx(20 / 30 * 0.9 + 10 / 30 * 0.2)
    assert curve[4] == pytest.approx(0.9)  # 40 % withheld: all failures


def test_the_best_control_is_the_rival() -> None:
    found = judged(noise(30).sigmoid(), FAILED.float(), torch.ones(30)).verdicts[0]
    assert found.judgement == "worse"
    assert f"the best control, {ENTROPY}, " in found.text
    assert found.text.endswith(AGAINST_CHANCE)


def test_equal_ones_are_level() -> None:
    found = judged(FAILED.float(), FAILED.float(), torch.ones(30)).verdicts[0]
    assert found.judgement == "level"
    assert not found.text.endswith(AGAINST_CHANCE)


def test_deep_uncertainty_is_judged_beside_the_best_control() -> None:
    mine = torch.where(FAILED, 1.0, noise(30).sigmoid())
    given = {UNCONFIDENCE: mine, ENTROPY: noise(30, seed=1), AREA: noise(30, seed=9)}
    given[DEEP] = FAILED.float()
    report = assess_images(given, FAILED, torch.ones(30), resampling=Resampling())
    control, deep, *_ = report.verdicts
    assert "confidence beats the best control, " in control.text
    assert f"confidence is level with {DEEP} at predicting whether" in deep.text
    assert "AUROC 1.000 against 1.000 (difference +0.000 [+0.000, +0.000])" in deep.text
    assert report.intervals["auroc"][DEEP].mean == 1
    assert report.roles[DEEP] is Role.RIVAL
    assert DEEP in report.curves["selective"]


def test_withholding_the_wrong_images_is_said() -> None:
    found = judged(FAILED.float(), noise(30), torch.where(FAILED, 0.9, 0.2))
    selective = found.verdicts[-1]
    assert selective.judgement == "worse"
    assert "is beaten by the best control, " in selective.text
    assert selective.text.endswith(AGAINST_CHANCE)


def test_confidence_that_helps_less_than_a_control_is_worse() -> None:
    """What is kept gets better and better: with the control even more so."""
    insertion = torch.linspace(0.2, 0.9, 60)
    failed = torch.arange(60) % 3 == 0
    mine = -insertion + 0.2 * noise(60)
    selective = judged(mine, -insertion, insertion, failed).verdicts[-1]
    assert selective.judgement == "worse"
    kept = [float(insertion[u.argsort()[:48]].mean()) for u in (mine, -insertion)]
    beaten = f"at 20 %, this explainer's confidence is beaten by the best control, {ENTROPY}: "
    assert f"{beaten}{kept[0]:.3f} against {kept[1]:.3f} (difference " in selective.text
    assert f"(difference {kept[0] - kept[1]:+.3f} [" in selective.text
    assert not selective.text.endswith(AGAINST_CHANCE)


def test_selecting_as_the_control_does_is_level() -> None:
    insertion = torch.linspace(0.2, 0.9, 30)
    selective = judged(-insertion, -insertion, insertion).verdicts[-1]
    assert selective.judgement == "level"
    assert "confidence is level with the best control" in selective.text


def test_few_images_are_not_selected_from() -> None:
    failed = torch.arange(9) % 2 == 0
    found = judged(failed.float(), noise(9), torch.ones(9), failed)
    selective = found.verdicts[-1]
    assert selective.judgement == "note"
    assert "fewer than 10 independent images (9)" in selective.text


@pytest.mark.parametrize(("failures", "judgement"), [(4, "note"), (5, "better"), (26, "note")])
def test_few_failures_or_few_successes_are_not_judged_by(failures: int, judgement: str) -> None:
    failed = torch.arange(30) < failures
    found = judged(failed.float(), noise(30), torch.ones(30), failed)
    first, *_ = found.verdicts
    assert first.judgement == judgement
    assert "AUROC 1.000 against" in first.text
    assert (f"in {failures} of 30 images" in first.text) == (judgement == "note")
    assert ("too rare to judge" in first.text) == (judgement == "note")
    assert found.intervals["auroc"][UNCONFIDENCE].mean == 1


def test_failures_in_few_groups_are_not_judged_by() -> None:
    uncertainties = {UNCONFIDENCE: FAILED.float(), ENTROPY: noise(30), AREA: noise(30, seed=9)}
    three = Resampling(groups=torch.arange(30) % 3)
    found = assess_images(uncertainties, FAILED, torch.ones(30), resampling=three)
    assert found.verdicts[0].judgement == "note"
    assert "fewer than 10 independent images (3)" in found.verdicts[0].text
    assert found.intervals["auroc"][UNCONFIDENCE].mean == 1


@pytest.mark.parametrize(("all_fail", "which"), [(True, "every image"), (False, "no image")])
def test_where_nothing_can_be_predicted_it_is_said(all_fail: bool, which: str) -> None:
    insertion = torch.linspace(0.2, 0.9, 30)
    report = judged(-insertion, noise(30), insertion, torch.full((30,), all_fail))
    found, selective = report.verdicts
    assert found.judgement == "note"
    assert f"in {which} when only 5 % of the pixels are kept: there is nothing" in found.text
    assert selective.judgement == "better"  # there are better and worse ones all the same
    assert report.intervals == {}
    assert "selective" in report.curves


def test_area_of_a_map() -> None:
    mean = torch.zeros(2, 4, 4)
    mean[0, 0, :3] = torch.tensor([1.0, 0.6, 0.4])
    mean[1] = 1.0
    posterior = DiagonalNormal(mean, torch.zeros_like(mean))
    torch.testing.assert_close(area(posterior), torch.tensor([2 / 16, 1.0]))


def test_entropies() -> None:
    fair = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    torch.testing.assert_close(entropy(fair, independent=False), torch.tensor([math.log(2), 0]))
    torch.testing.assert_close(entropy(fair, independent=True), torch.tensor([2 * math.log(2), 0]))


def test_deep_uncertainty_by_the_textbook() -> None:
    """The variance of each pixel's rank, pixel by pixel, whatever the scales of the maps."""
    maps = noise(3, 2, 4, 5)
    expected = []
    for image in range(2):
        places = [sorted(one[image].flatten().tolist(), reverse=True) for one in maps]
        variances = [
            statistics.pvariance(
                places[run].index(float(maps[run, image].flatten()[pixel])) / 20 for run in range(3)
            )
            for pixel in range(20)
        ]
        expected.append(statistics.mean(variances))
    scaled = maps * torch.tensor([1.0, 9.0, 0.1]).view(3, 1, 1, 1) + 2
    torch.testing.assert_close(deep_uncertainty(maps), torch.tensor(expected))
    torch.testing.assert_close(deep_uncertainty(scaled), torch.tensor(expected))
    assert deep_uncertainty(maps[:1].expand(3, -1, -1, -1)).tolist() == [0, 0]


def test_the_selection_by_measured_sufficiency_says_what_it_is_judged_over() -> None:
    insertion = torch.linspace(0.2, 0.9, 30)
    mine = {SUFFICIENCY: -insertion, ENTROPY: noise(30), AREA: noise(30, seed=9)}
    report = assess_selection(mine, insertion, resampling=Resampling(), baseline="inpaint")
    (found,) = report.verdicts
    assert found.judgement == "better"
    assert found.text.startswith("With the least sufficient 0, 10, 20 and 30 % of the explanations")
    assert "the insertion AUC over in-painting of the others is 0.550, " in found.text
    assert "at 20 %, the measured sufficiency beats the best control, " in found.text
    assert report.roles[SUFFICIENCY] is Role.EXPLAINER
    assert report.curves["selective"].keys() == {"rejected", *mine}


def test_gathered_over_batches() -> None:
    explainer, classifier = trained_explainer(encoder=UNET), blob_classifier()
    batches: list[Batch] = [{"image": blobs(5)[:3]}, {"image": blobs(5)[3:]}]

    def vargrad(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return batch["image"].mean(1)

    def other(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return batch["image"][:, 0]

    found = gather_uncertainties(batches, explainer, classifier, vargrad, [vargrad, other])
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    posterior = explainer(blobs(5))
    close(found[UNCONFIDENCE], 1 - posterior.confidence)
    close(found[DISAGREEMENT], 1 - posterior.map_agreement(0.05))
    probabilities = classifier(blobs(5)).softmax(1)
    close(found[ENTROPY], -(probabilities * probabilities.log()).sum(1))
    close(found[VARGRAD], blobs(5).mean((1, 2, 3)))
    maps = torch.stack([posterior.mean, blobs(5).mean(1), blobs(5)[:, 0]])
    close(found[DEEP], deep_uncertainty(maps))


def test_sufficiency_is_gathered_where_no_network_estimates_it() -> None:
    classifier = blob_classifier()
    explainer = trained_explainer(encoder=UNET, confidence=None)
    explainer.encoder = ConditionalUNet((4, 8))
    explainer.eval().attach_classifier(classifier)
    images = (255 * blobs(5)).round() / 255
    found = gather_uncertainties([{"image": images}], explainer, classifier)
    assert UNCONFIDENCE not in found
    explanations = explainer.explain(list(images), baseline=Blur())
    curves = torch.tensor([[at.on_kept_view for at in one.curve] for one in explanations])
    assert curves.std() > 0.01
    torch.testing.assert_close(found[SUFFICIENCY], 1 - curves.mean(1))
