"""How metrics are named and explained."""

from saliency_vae.evaluation.metric_info import has_own_baseline_image, metric_info


def test_directions_and_titles() -> None:
    assert metric_info("deletion").arrow == "↓"
    assert metric_info("sparsity").arrow == ""
    assert metric_info("agreement_5").title == "Agreement 5 %"


def test_metrics_over_further_baseline_images() -> None:
    other = metric_info("insertion_zero")
    assert (other.title, other.short, other.higher_is_better) == (
        "Insertion AUC over zero",
        "ins zero",
        True,
    )
    assert metric_info("deletion_classifier_mean").title == "Deletion AUC over classifier mean"
    assert not metric_info("deletion_classifier_mean").higher_is_better
    metrics = ("insertion", "insertion_zero", "deletion_classifier_mean", "agreement_5")
    assert [has_own_baseline_image(metric) for metric in metrics] == [False, True, True, False]
