"""What is said of the confidence in explanations, on evidence whose truth is known."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from saliency_vae.data.batch import Batch
from saliency_vae.distributions import DiagonalNormal
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.uncertainty.images import (
    CONFIDENCE,
    add_images,
    area,
    entropy,
    gather_images,
)
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

ENTROPY, AREA = "control, entropy of the prediction", "control, area of the map"
FAILED = torch.arange(30) % 3 == 0
AGAINST_CHANCE = "It is no better than chance."


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def judged(ours: Tensor, control: Tensor, insertion: Tensor, failed: Tensor = FAILED) -> Results:
    results = Results()
    uncertainties = {CONFIDENCE: ours, ENTROPY: control, AREA: noise(len(failed), seed=9)}
    add_images(results, uncertainties, failed, insertion)
    return results


def test_confidence_that_knows_beats_the_controls() -> None:
    found = judged(FAILED.float(), noise(30), torch.where(FAILED, 0.2, 0.9))
    auroc, calibration, selective = found.uncertainty_findings
    assert auroc.verdict == "better"
    assert "our confidence beats the best control, " in auroc.text
    assert "AUROC 1.000 against" in auroc.text
    assert found.uncertainty["auroc"][CONFIDENCE].mean == 1
    assert calibration.verdict == "note"
    assert "mean confidence is 0.667; 0.667 of" in calibration.text
    assert "calibration error 0.000" in calibration.text
    assert selective.verdict == "better"
    assert selective.text.startswith(
        "Insertion AUC is 0.667, 0.719, 0.783, 0.867 as the least confident 0, 10, 20 and 30 % of "
        "the explanations are withheld; at 20 %, 0.783, our confidence beats the best control, "
    )
    curve = found.uncertainty_curves["selective"][CONFIDENCE]
    assert curve[0] == pytest.approx(20 / 30 * 0.9 + 10 / 30 * 0.2)
    assert curve[4] == pytest.approx(0.9)  # 40 % withheld: all failures


def test_the_best_control_is_the_rival() -> None:
    found = judged(noise(30).sigmoid(), FAILED.float(), torch.ones(30)).uncertainty_findings[0]
    assert found.verdict == "worse"
    assert f"the best {ENTROPY}" in found.text
    assert found.text.endswith(AGAINST_CHANCE)


def test_equal_ones_are_level() -> None:
    found = judged(FAILED.float(), FAILED.float(), torch.ones(30)).uncertainty_findings[0]
    assert found.verdict == "level"
    assert not found.text.endswith(AGAINST_CHANCE)


def test_withholding_the_wrong_images_is_said() -> None:
    found = judged(FAILED.float(), noise(30), torch.where(FAILED, 0.9, 0.2))
    selective = found.uncertainty_findings[-1]
    assert selective.verdict == "worse"
    assert "is beaten by the best control, " in selective.text
    assert selective.text.endswith(AGAINST_CHANCE)


def test_confidence_that_helps_less_than_a_control_is_worse() -> None:
    """What is kept gets better and better: with the control even more so."""
    insertion = torch.linspace(0.2, 0.9, 60)
    failed = torch.arange(60) % 3 == 0
    ours = -insertion + 0.2 * noise(60)
    selective = judged(ours, -insertion, insertion, failed).uncertainty_findings[-1]
    assert selective.verdict == "worse"
    kept = [float(insertion[u.argsort()[:48]].mean()) for u in (ours, -insertion)]
    assert f"at 20 %, {kept[0]:.3f}, our confidence is beaten by the best {ENTROPY}, " in (
        selective.text
    )
    assert f"{ENTROPY}, {kept[1]:.3f} (difference {kept[0] - kept[1]:+.3f} [" in selective.text
    assert not selective.text.endswith(AGAINST_CHANCE)


def test_selecting_as_the_control_does_is_level() -> None:
    insertion = torch.linspace(0.2, 0.9, 30)
    selective = judged(-insertion, -insertion, insertion).uncertainty_findings[-1]
    assert selective.verdict == "level"
    assert "cannot be told from" in selective.text


def test_few_images_are_not_selected_from() -> None:
    failed = torch.arange(9) % 2 == 0
    found = judged(failed.float(), noise(9), torch.ones(9), failed)
    selective = found.uncertainty_findings[-1]
    assert selective.verdict == "note"
    assert "fewer than 10 images (9)" in selective.text


@pytest.mark.parametrize(("failures", "verdict"), [(4, "note"), (5, "better"), (26, "note")])
def test_few_failures_or_few_successes_are_not_judged_by(failures: int, verdict: str) -> None:
    failed = torch.arange(30) < failures
    found = judged(failed.float(), noise(30), torch.ones(30), failed)
    first, *_ = found.uncertainty_findings
    assert first.verdict == verdict
    assert "AUROC 1.000 against" in first.text
    assert (f"{failures} of 30 explanations fail" in first.text) == (verdict == "note")
    assert found.uncertainty["auroc"][CONFIDENCE].mean == 1


@pytest.mark.parametrize(("all_fail", "which"), [(True, "every image"), (False, "no image")])
def test_where_nothing_can_be_predicted_it_is_said(all_fail: bool, which: str) -> None:
    insertion = torch.linspace(0.2, 0.9, 30)
    results = judged(-insertion, noise(30), insertion, torch.full((30,), all_fail))
    found, selective = results.uncertainty_findings
    assert found.verdict == "note"
    assert which in found.text
    assert selective.verdict == "better"  # there are better and worse ones all the same
    assert results.uncertainty == {}
    assert "selective" in results.uncertainty_curves


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


def test_gathered_over_batches() -> None:
    explainer, classifier = trained_explainer(encoder=UNET), blob_classifier()
    batches: list[Batch] = [{"image": blobs(5)[:3]}, {"image": blobs(5)[3:]}]
    found = gather_images(batches, explainer, classifier, lambda batch, _: batch["image"].mean(1))
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    posterior = explainer(blobs(5))
    close(found[CONFIDENCE], 1 - posterior.confidence)
    close(found["ours, disagreement of sampled maps"], 1 - posterior.map_agreement(0.05))
    probabilities = classifier(blobs(5)).softmax(1)
    close(found[ENTROPY], -(probabilities * probabilities.log()).sum(1))
    close(found["control, VarGrad"], blobs(5).mean((1, 2, 3)))
