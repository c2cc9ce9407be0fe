"""What is said of ours, on results whose truth is known."""

import pytest
import torch

from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.verdicts import LEAST_IMAGES, findings, verdict
from saliency_vae.metrics.bootstrap import Interval
from tests.helpers.constructed_results import IMAGES, constructed, several


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
def test_verdict(low: float, high: float, if_higher: str, if_lower: str) -> None:
    assert verdict(interval(low, high)) == if_higher
    assert verdict(interval(low, high), higher_is_better=False) == if_lower


def said(results: Results) -> dict[str, tuple[str, str]]:
    """Verdict and text by the first word of the finding."""
    return {f.text.partition(" ")[0].rstrip(":"): (f.verdict, f.text) for f in findings(results)}


def test_better_level_and_worse() -> None:
    found = said(
        constructed(
            {
                "insertion": {"ours": 0.8, "rise": 0.7, "random": 0.2, "oracle": 0.95},
                "deletion": {"ours": 0.3, "rise": 0.2, "random": 0.5, "oracle": 0.1},
                "iou": {"ours": 0.5, "rise": 0.5, "random": 0.1, "oracle": 1.0},
            },
            seconds={"ours": 0.001, "rise": 0.5},
        )
    )
    assert found["Insertion"] == (
        "better",
        "Insertion AUC: ours 0.800, better than the best other, RISE, 0.700 "
        "(difference +0.100 [+0.100, +0.100]).",
    )
    assert found["Deletion"][0] == "worse"
    assert "ours 0.300, worse than the best other, RISE, 0.200" in found["Deletion"][1]
    assert found["IoU"][0] == "level"
    assert "level with the best other, RISE" in found["IoU"][1]
    assert found["Time"] == (
        "better",
        "Time: ours 1 ms an explanation; the best other by insertion, RISE, 500 ms, "
        "500 times as long.",
    )


def test_each_removal_is_judged() -> None:
    *found, _ = findings(
        constructed(
            {
                "insertion": {"ours": 0.8, "rise": 0.7},
                "deletion": {"ours": 0.2, "rise": 0.3},
                "insertion_zero": {"ours": 0.4, "rise": 0.6},
                "deletion_zero": {"ours": 0.1, "rise": 0.3},
            }
        )
    )
    assert [(f.verdict, f.text.partition(":")[0]) for f in found] == [
        ("better", "Insertion AUC"),
        ("better", "Deletion AUC"),
        ("worse", "Insertion AUC (zero)"),
        ("better", "Deletion AUC (zero)"),
    ]


def test_lower_deletion_is_better() -> None:
    assert said(several())["Deletion"][0] == "better"


def test_a_difference_within_its_noise_is_level() -> None:
    results = several()
    noise = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    results.values["insertion"] |= {
        "ours": 0.7 + 0.5 * noise,
        "rise": 0.69 + 0.5 * noise.flip(0),
    }
    assert said(results)["Insertion"][0] == "level"


def test_pairing_finds_what_the_methods_own_intervals_would_hide() -> None:
    results = several()
    noise = torch.randn(IMAGES, generator=torch.Generator().manual_seed(0))
    results.values["insertion"] |= {"ours": 0.72 + 0.5 * noise, "rise": 0.7 + 0.5 * noise}
    intervals = results.intervals["insertion"]
    assert intervals["ours"].low < intervals["rise"].high  # they overlap
    assert said(results)["Insertion"][0] == "better"


def test_a_second_explainer_of_ours_and_the_oracle_are_no_rivals() -> None:
    results = constructed(
        {"insertion": {"ours": 0.8, "ours_paper": 0.9, "oracle": 0.95, "gradient": 0.6}}
    )
    assert "the best other, gradient" in said(results)["Insertion"][1]
    alone = constructed({"insertion": {"ours": 0.8, "ours_paper": 0.9, "oracle": 0.95}})
    assert findings(alone) == []


@pytest.mark.parametrize(("number", "judged"), [(LEAST_IMAGES - 1, False), (LEAST_IMAGES, True)])
def test_few_images_are_no_ground_for_a_verdict(number: int, judged: bool) -> None:
    results = several()
    results.values = {
        metric: {method: values[:number] for method, values in of.items()}
        for metric, of in results.values.items()
    }
    first, *_, cost = findings(results)
    assert cost.text.startswith("Time: ")
    assert (first.verdict == "note") is not judged
    assert ("fewer than 10 images (9)" in first.text) is not judged


def test_without_ours_there_is_nothing_to_say() -> None:
    assert findings(constructed({"insertion": {"rise": 0.7, "gradient": 0.6}})) == []


def test_slower_is_said_too() -> None:
    results = constructed(
        {"insertion": {"ours": 0.8, "gradient": 0.6}}, seconds={"ours": 0.02, "gradient": 0.01}
    )
    assert said(results)["Time"][0] == "worse"
    assert said(results)["Time"][1].endswith("gradient, 10 ms, 2 times as fast.")
