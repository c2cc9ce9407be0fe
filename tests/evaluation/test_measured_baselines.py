"""Baseline images, seen or unseen in training, and which metrics a short table shows."""

from dataclasses import replace

from saliency_vae.evaluation.main_metrics import (
    agreements,
    fitting_agreement,
    further_metrics,
    main_metrics,
)
from saliency_vae.evaluation.measured_baselines import (
    baseline_name,
    faithfulness,
    further_baselines,
    metrics_over,
    seen_note,
)
from saliency_vae.evaluation.scores import Scores
from tests.helpers.constructed_results import constructed


def over_three() -> Scores:
    metrics = "insertion deletion srg iou insertion_zero deletion_zero insertion_road srg_road"
    scores = constructed({metric: {"explainer": 0.5, "rise": 0.4} for metric in metrics.split()})
    return replace(scores, baseline="blur", seen=frozenset({"blur", "zero"}))


def test_baselines_are_those_that_metrics_name() -> None:
    scores = over_three()
    assert further_baselines(scores) == ["zero", "road"]
    assert metrics_over(scores, "") == ["insertion", "deletion", "srg"]
    assert metrics_over(scores, "zero") == ["insertion_zero", "deletion_zero"]
    assert metrics_over(scores, "road") == ["insertion_road", "srg_road"]


def test_baselines_are_compared_by_srg_where_there_is_one() -> None:
    assert faithfulness(over_three()) == "srg"
    assert faithfulness(constructed({"insertion": {"rise": 0.4}})) == "insertion"


def test_names_of_baselines() -> None:
    scores = over_three()
    assert [baseline_name(scores, name) for name in ("", "road")] == [
        "blur",
        "noisy linear imputation",
    ]
    assert baseline_name(replace(scores, baseline=""), "") == "the first baseline image"


def test_seen_and_unseen() -> None:
    scores = over_three()
    assert seen_note(scores, "") == ", seen in training"
    assert seen_note(scores, "zero") == ", seen in training"
    assert seen_note(scores, "road") == ", unseen in training"
    assert seen_note(replace(scores, seen=frozenset()), "road") == ""
    assert seen_note(replace(scores, baseline=""), "") == ""


def test_every_metric_has_one_place() -> None:
    metrics = (
        "sparsity insertion deletion agreement_5 agreement_20 srg iou grid_top grid_share own_mask "
        "insertion_zero"
    )
    means = {metric: {"explainer": 0.3, "rise": 0.3} for metric in metrics.split()}
    means["agreement_20"] = {"explainer": 0.8, "rise": 0.1}
    scores = constructed(means)
    assert fitting_agreement(scores) == "agreement_20"  # half of the methods keep half
    assert main_metrics(scores) == [
        "insertion",
        "deletion",
        "srg",
        "agreement_20",
        "iou",
        "grid_share",
    ]
    assert agreements(scores) == ["agreement_5", "agreement_20"]
    assert further_metrics(scores) == ["sparsity", "grid_top", "own_mask"]


def test_without_agreement_none_fits() -> None:
    assert fitting_agreement(constructed({"insertion": {"rise": 0.4}})) is None
