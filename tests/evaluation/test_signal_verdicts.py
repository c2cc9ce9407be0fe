"""Is it the classifier that is explained? On scores whose truth is known."""

from dataclasses import replace

import pytest
import torch

from saliency_vae.evaluation.signal_verdicts import compare_with_signal_controls
from tests.helpers.constructed_results import IMAGES, constructed, with_values


def test_better_in_each_is_better() -> None:
    scores = constructed(
        {
            "insertion": {"explainer": 0.389, "zeroed_signals": 0.13, "rise": 0.5},
            "iou": {"explainer": 0.26, "zeroed_signals": 0.1, "rise": 0.5},
        }
    )
    (verdict,) = compare_with_signal_controls(scores)
    assert verdict.judgement == "better"
    assert verdict.text == (
        "Is it the classifier that is explained? This explainer against a control (zeroed "
        "signals): Insertion AUC 0.389 against 0.130 (difference +0.259 [+0.259, +0.259]), IoU "
        "0.260 against 0.100 (difference +0.160 [+0.160, +0.160]); it is better in each, so its "
        "maps depend on this classifier."
    )


@pytest.mark.parametrize(
    ("iou", "pointing", "judgement"),
    [(0.1, 0.1, "better"), (0.5, 0.1, "level"), (0.9, 0.1, "level"), (0.9, 0.6, "level")],
)
def test_one_metric_that_is_not_better_leaves_it_open(
    iou: float, pointing: float, judgement: str
) -> None:
    scores = constructed(
        {
            "insertion": {"explainer": 0.5, "image_only": 0.4},
            "pointing_game": {"explainer": 0.5, "image_only": pointing},
            "iou": {"explainer": 0.5, "image_only": iou},
        }
    )
    (verdict,) = compare_with_signal_controls(scores)
    assert verdict.judgement == judgement


def test_worse_without_being_better_is_worse() -> None:
    scores = constructed({"insertion": {"explainer": 0.3, "randomised_signals": 0.4}})
    (verdict,) = compare_with_signal_controls(scores)
    assert verdict.judgement == "worse"
    assert "it is worse" in verdict.text


def test_a_difference_within_its_noise_is_not_better() -> None:
    noise = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    scores = constructed({"insertion": {"explainer": 0.5, "zeroed_signals": 0.45}})
    (verdict,) = compare_with_signal_controls(scores)
    assert verdict.judgement == "better"
    noisy = with_values(scores, "insertion", zeroed_signals=0.45 + noise)
    (verdict,) = compare_with_signal_controls(noisy)
    assert verdict.judgement == "level"


def test_each_control_that_is_there_has_a_verdict() -> None:
    means = {"explainer": 0.5, "image_only": 0.4, "randomised_signals": 0.3, "rise": 0.9}
    found = compare_with_signal_controls(constructed({"insertion": means}))
    assert ["(randomised signals)" in verdict.text for verdict in found] == [True, False]
    assert "(image only)" in found[1].text
    assert compare_with_signal_controls(constructed({"insertion": {"explainer": 0.5}})) == []
    assert compare_with_signal_controls(constructed({"insertion": {"image_only": 0.5}})) == []


def test_few_images_are_no_ground_for_a_verdict() -> None:
    scores = constructed({"insertion": {"explainer": 0.5, "zeroed_signals": 0.1}})
    few = {"insertion": {m: values[:9] for m, values in scores.values["insertion"].items()}}
    (verdict,) = compare_with_signal_controls(replace(scores, values=few))
    assert verdict.judgement == "note"
    assert "(zeroed signals)" in verdict.text
