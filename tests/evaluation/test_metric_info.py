"""How metrics are named and explained."""

import pytest

from saliency_vae.evaluation.metric_info import baseline_of, metric_info, over

NEW = "srg two_objects_point two_objects_iou two_objects_share grid_share grid_top grid_cell eval_x"


def test_directions_and_titles() -> None:
    assert metric_info("deletion").arrow == "↓"
    assert metric_info("sparsity").arrow == ""


@pytest.mark.parametrize("percent", ["5", "30", "2.5"])
def test_agreement_at_any_share(percent: str) -> None:
    info = metric_info(f"agreement_{percent}")
    assert (info.title, info.short) == (f"Agreement {percent} %", f"{percent}%")
    assert info.higher_is_better
    assert f"only the {percent} % most salient pixels" in info.explanation


@pytest.mark.parametrize("metric", NEW.split())
def test_each_metric_has_one_sentence(metric: str) -> None:
    info = metric_info(metric)
    assert info.higher_is_better
    assert len(info.short) <= 5
    assert info.explanation.endswith(".")
    assert baseline_of(metric) == ""


def test_sufficiency_and_necessity_at_any_share() -> None:
    titles = [metric_info(f"{kind}_2.5").title for kind in ("sufficiency", "necessity", "lost")]
    assert titles == ["Sufficiency 2.5 %", "Necessity 2.5 %", "Decision lost 2.5 %"]
    assert [metric_info(f"{kind}_10").is_share for kind in ("sufficiency", "lost")] == [False, True]
    assert baseline_of("necessity_10") == ""


def test_metrics_over_further_baselines() -> None:
    other = metric_info("insertion_zero")
    assert (other.title, other.short, other.higher_is_better) == (
        "Insertion AUC over zero",
        "ins zero",
        True,
    )
    assert metric_info("deletion_classifier_mean").title == "Deletion AUC over classifier mean"
    assert not metric_info("deletion_classifier_mean").higher_is_better
    assert metric_info("srg_inpaint").title == "SRG over in-painting"
    assert metric_info("srg_road").explanation == (
        "SRG where noisy linear imputation takes the place of removed pixels."
    )


def test_the_baseline_image_of_a_metric() -> None:
    metrics = ("insertion", "srg", "agreement_5", "insertion_zero", "deletion_classifier_mean")
    assert [baseline_of(metric) for metric in metrics] == ["", "", "", "zero", "classifier_mean"]
    assert [over("srg", baseline) for baseline in ("", "light_blur")] == ["srg", "srg_light_blur"]


def test_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(KeyError):
        metric_info("goodness")
