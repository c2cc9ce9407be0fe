"""Verdicts on the explainer, on scores whose truth is known."""

from dataclasses import replace

import pytest
import torch

from saliency_vae.evaluation.resampling import LEAST_IMAGES
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.verdicts import compare_with_rivals, judge
from saliency_vae.metrics.bootstrap import Interval
from tests.helpers.constructed_results import IMAGES, constructed, several, with_values


def interval(low: float, high: float) -> Interval:
    return Interval(*(torch.tensor(value) for value in ((low + high) / 2, low, high)))


@pytest.mark.parametrize(
    ("low", "high", "if_higher", "if_lower"),
    [
        (0.01, 0.2, "better", "worse"),
        (-0.2, -0.01, "worse", "better"),
        (-0.1, 0.1, "level", "level"),
        (0.0, 0.1, "level", "level"),
        (0.0, 0.0, "level", "level"),
        (0.0002, 0.0004, "level", "level"),  # 0.000 in the text
        (-0.0004, -0.0002, "level", "level"),
        (0.0004, 0.0008, "better", "worse"),  # 0.001
        (-0.0008, -0.0004, "worse", "better"),
    ],
)
def test_judgement(low: float, high: float, if_higher: str, if_lower: str) -> None:
    assert judge(interval(low, high)) == if_higher
    assert judge(interval(low, high), higher_is_better=False) == if_lower


def said(scores: Scores) -> dict[str, tuple[str, str]]:
    """Judgement and text by the first word of the verdict."""
    return {
        verdict.text.partition(" ")[0].rstrip(":"): (verdict.judgement, verdict.text)
        for verdict in compare_with_rivals(scores)
    }


def test_better_level_and_worse() -> None:
    found = said(
        constructed(
            {
                "insertion": {"explainer": 0.8, "rise": 0.7, "random": 0.2, "oracle": 0.95},
                "deletion": {"explainer": 0.3, "rise": 0.2, "random": 0.5, "oracle": 0.1},
                "iou": {"explainer": 0.5, "rise": 0.5, "random": 0.1, "oracle": 1.0},
            },
            seconds={"explainer": 0.001, "rise": 0.5},
        )
    )
    assert found["Insertion"] == (
        "better",
        "Insertion AUC: this explainer 0.800, better than the best other method, RISE, 0.700 "
        "(difference +0.100 [+0.100, +0.100]).",
    )
    assert found["Deletion"][0] == "worse"
    assert (
        "this explainer 0.300, worse than the best other method, RISE, 0.200"
        in found["Deletion"][1]
    )
    assert found["IoU"][0] == "level"
    assert "level with the best other method, RISE" in found["IoU"][1]
    assert found["Time"] == (
        "better",
        "Time of an explanation: this explainer 1 ms; the best other method by insertion AUC, "
        "RISE, 500 ms, 500 times as long.",
    )


def test_each_baseline_image_is_judged() -> None:
    *found, _ = compare_with_rivals(
        constructed(
            {
                "insertion": {"explainer": 0.8, "rise": 0.7},
                "deletion": {"explainer": 0.2, "rise": 0.3},
                "insertion_zero": {"explainer": 0.4, "rise": 0.6},
                "deletion_zero": {"explainer": 0.1, "rise": 0.3},
            }
        )
    )
    assert [(v.judgement, v.text.partition(":")[0]) for v in found] == [
        ("better", "Insertion AUC"),
        ("better", "Deletion AUC"),
        ("worse", "Insertion AUC over zero"),
        ("better", "Deletion AUC over zero"),
    ]


def test_lower_deletion_is_better() -> None:
    assert said(several())["Deletion"][0] == "better"


def test_a_difference_within_its_noise_is_level() -> None:
    noise = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    scores = with_values(
        several(), "insertion", explainer=0.7 + 0.5 * noise, rise=0.69 + 0.5 * noise.flip(0)
    )
    assert said(scores)["Insertion"][0] == "level"


def test_pairing_finds_what_the_methods_own_intervals_would_hide() -> None:
    noise = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    scores = with_values(
        several(), "insertion", explainer=0.72 + 0.5 * noise, rise=0.7 + 0.5 * noise
    )
    intervals = scores.intervals["insertion"]
    assert intervals["explainer"].low < intervals["rise"].high  # they overlap
    assert said(scores)["Insertion"][0] == "better"


def test_a_second_explainer_and_the_oracle_are_no_rivals() -> None:
    roles = {"second": Role.EXPLAINER}
    means = {"explainer": 0.8, "second": 0.9, "oracle": 0.95}
    scores = constructed({"insertion": means | {"gradient": 0.6}}, roles=roles)
    assert "the best other method, gradient" in said(scores)["Insertion"][1]
    assert compare_with_rivals(constructed({"insertion": means}, roles=roles)) == []


def test_a_control_is_a_rival_whatever_its_name() -> None:
    scores = constructed(
        {"insertion": {"explainer": 0.8, "explainer_of_edges": 0.9}},
        roles={"explainer_of_edges": Role.CONTROL},
    )
    assert "the best other method, explainer of edges" in said(scores)["Insertion"][1]


@pytest.mark.parametrize(("number", "judged"), [(LEAST_IMAGES - 1, False), (LEAST_IMAGES, True)])
def test_few_images_are_no_ground_for_a_verdict(number: int, judged: bool) -> None:
    scores = several()
    few = {
        metric: {method: values[:number] for method, values in of.items()}
        for metric, of in scores.values.items()
    }
    first, *_, cost = compare_with_rivals(replace(scores, values=few))
    assert cost.text.startswith("Time of an explanation: ")
    assert (first.judgement == "note") is not judged
    assert ("fewer than 10 independent images (9)" in first.text) is not judged


def test_without_the_explainer_there_is_no_verdict() -> None:
    assert compare_with_rivals(constructed({"insertion": {"rise": 0.7, "gradient": 0.6}})) == []


def test_slower_is_said_too() -> None:
    scores = constructed(
        {"insertion": {"explainer": 0.8, "gradient": 0.6}},
        seconds={"explainer": 0.02, "gradient": 0.01},
    )
    assert said(scores)["Time"][0] == "worse"
    assert said(scores)["Time"][1].endswith("gradient, 10 ms, 2 times as fast.")


def test_of_further_baselines_srg_alone_is_judged_where_there_is_one() -> None:
    means = {"explainer": 0.8, "rise": 0.7}
    metrics = ("insertion", "deletion", "srg", "insertion_zero", "srg_zero", "srg_road")
    scores = constructed(dict.fromkeys(metrics, means))
    scores = replace(scores, baseline="blur", seen=frozenset({"blur", "zero"}))
    assert [verdict.text.partition(":")[0] for verdict in compare_with_rivals(scores)[:-1]] == [
        "Insertion AUC",
        "Deletion AUC",
        "SRG",
        "SRG over zero, seen in training",
        "SRG over noisy linear imputation, unseen in training",
    ]


def test_the_agreement_that_fits_is_judged() -> None:
    scores = constructed(
        {
            "insertion": {"explainer": 0.8, "rise": 0.7},
            "agreement_5": {"explainer": 0.1, "rise": 0.2},
            "agreement_40": {"explainer": 0.6, "rise": 0.7},
            "agreement_80": {"explainer": 0.9, "rise": 0.9},
        }
    )
    found = said(scores)["Agreement"]
    assert found[0] == "worse"
    assert found[1].startswith("Agreement 40 %: this explainer 0.600")


def with_slow(slow: float, rise: float = 0.7) -> Scores:
    """Scores of a slow method on twelve images, on which the explainer has 0.3 and RISE 0.2."""
    scores = constructed(
        {"insertion": {"explainer": 0.8, "rise": rise, "slow": slow}}, seconds={"slow": 9.0}
    )
    values = {method: of.clone() for method, of in scores.values["insertion"].items()}
    values["explainer"][:12], values["rise"][:12] = 0.3, 0.2
    values["slow"] = values["slow"][:12]
    return with_values(scores, "insertion", **values)


def test_a_rival_with_fewer_images_is_compared_on_them_and_apart() -> None:
    first, second, *_ = compare_with_rivals(with_slow(0.5))
    assert "the best other method, RISE" in first.text
    assert second.judgement == "worse"  # though its 0.5 is below the explainer's mean of all images
    assert "this explainer 0.300, worse than the best method among those" in second.text
    assert "scored on the first 12 images alone, slow, 0.464" in second.text
    first, second, *_ = compare_with_rivals(with_slow(0.2))
    assert (first.judgement, second.judgement) == ("better", "better")


def test_a_rival_with_too_few_images_is_not_compared() -> None:
    scores = with_slow(0.9)
    few = with_values(scores, "insertion", slow=scores.values["insertion"]["slow"][:9])
    assert not any("slow" in verdict.text for verdict in compare_with_rivals(few))


def test_a_metric_that_the_explainer_has_no_score_of_is_not_judged() -> None:
    scores = constructed({"insertion": {"explainer": 0.8, "rise": 0.7}})
    scores = scores.extended({"grid_share": {"rise": torch.ones(40)}})
    assert "Grid" not in said(scores)


def test_passes_are_compared_where_they_were_counted() -> None:
    scores = constructed({"insertion": {"explainer": 0.8, "rise": 0.7}})
    *_, passes, _ = compare_with_rivals(replace(scores, passes={"explainer": 2.0, "rise": 300.0}))
    assert passes.judgement == "better"
    assert passes.text == (
        "Passes of the classifier an image: this explainer 2; the best other method by insertion "
        "AUC, RISE, 300."
    )
    *_, passes, _ = compare_with_rivals(replace(scores, passes={"explainer": 1.0, "rise": 1.0}))
    assert passes.judgement == "level"
    assert "Passes" not in said(scores)
