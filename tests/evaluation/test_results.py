"""What an evaluation found, in memory and on disk."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from saliency_vae.evaluation.metric_info import metric_info, short, three_digits, title
from saliency_vae.evaluation.results import Finding, Results
from saliency_vae.metrics.bootstrap import difference_interval, mean_interval
from tests.helpers.constructed_results import IMAGES, constructed, several


def test_interval_of_each_method_is_that_of_the_method_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.rand(30, generator=generator) for name in ("a", "b", "c")}
    results = Results(seed=3, values={"iou": values})
    for name, of_method in values.items():
        expected = mean_interval(of_method, seed=3)
        for found, number in zip(results.intervals["iou"][name], expected, strict=True):
            torch.testing.assert_close(found, number)


def test_metrics_may_have_fewer_images() -> None:
    results = several()
    results.values["pointing_game"] = {method: torch.ones(3) for method in results.methods}
    assert results.images == IMAGES
    interval = results.intervals["pointing_game"]["ours"]
    assert float(interval.low) == pytest.approx(3 / (3 + 1.959964**2))  # Wilson's of 3 hits in 3
    assert float(interval.high) == 1


def test_a_difference_of_shares_is_no_share() -> None:
    """Where all have the same mask, no image gains anything by its own."""
    results = several()
    results.values["own_mask"] = {
        "ours": torch.tensor([1.0, 0.0, 1.0, 1.0]),
        "centre_prior": torch.zeros(4),
    }
    assert [float(n) for n in results.intervals["own_mask"]["centre_prior"]] == [0, 0, 0]
    expected = difference_interval(results.values["own_mask"]["ours"], torch.zeros(4))
    assert results.intervals["own_mask"]["ours"] == expected


def test_best_by_direction_without_the_oracle() -> None:
    results = several()
    assert results.best("insertion") == {"ours"}
    assert results.best("deletion") == {"ours"}
    assert results.best("sparsity") == set()  # a property


def test_the_best_may_be_several() -> None:
    results = constructed({"iou": {"ours": 0.5, "rise": 0.5, "gradient": 0.4, "oracle": 1.0}})
    assert results.best("iou") == {"ours", "rise"}
    assert constructed({"iou": {"oracle": 1.0}}).best("iou") == set()


def test_ranking_is_by_insertion() -> None:
    results = several()
    assert results.methods == ["random", "ours", "oracle", "rise", "grad_cam"]
    assert results.ranking() == ["oracle", "ours", "rise", "grad_cam", "random"]


def test_names() -> None:
    assert metric_info("deletion").arrow == "↓"
    assert metric_info("sparsity").arrow == ""
    other = metric_info("insertion_zero")
    assert (other.title, other.short, other.higher_is_better) == (
        "Insertion AUC (zero)",
        "ins zero",
        True,
    )
    assert metric_info("deletion_classifier_mean").title == "Deletion AUC (classifier mean)"
    assert not metric_info("deletion_classifier_mean").higher_is_better
    assert metric_info("agreement_5").title == "Agreement 5 %"
    assert [title(name) for name in ("rise", "edge_magnitude")] == ["RISE", "edge magnitude"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.948, ".948"),
        (1.0, "1.000"),
        (10.5, "10.500"),
        (-0.25, "-.250"),
        (0.0, ".000"),
        (0.00213, ".0021"),
        (-0.002, "-.002"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1290.4, "1290"), (0.02664, "0.0266"), (1.5, "1.5"), (123456, "123000")]
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_files_hold_everything(tmp_path: Path) -> None:
    results = several()
    results.findings = [Finding("better", "Ours wins.")]
    results.left_out = ["Something."]
    results.uncertainty["ece"] = {"ours": results.intervals["insertion"]["ours"]}
    results.uncertainty_findings = [Finding("level", "Unsure.")]
    results.save(tmp_path)

    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * (4 + 2)
    by_name = {(row["method"], row["metric"]): row for row in rows}
    assert float(by_name["ours", "insertion"]["mean"]) == pytest.approx(0.8)
    low, high = (float(by_name["ours", "insertion"][name]) for name in ("low", "high"))
    assert 0.78 < low < 0.8 < high < 0.82
    assert by_name["ours", "insertion"]["images"] == str(IMAGES)
    assert float(by_name["rise", "seconds"]["mean"]) == 0.9
    assert float(by_name["rise", "bytes"]["mean"]) == 2**20

    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["findings"] == [{"verdict": "better", "text": "Ours wins."}]
    assert found["about"] == results.about
    assert found["left_out"] == ["Something."]
    assert found["uncertainty"]["findings"][0]["text"] == "Unsure."
    (number,) = found["uncertainty"]["metrics"]
    assert (number["metric"], number["uncertainty"]) == ("ece", "ours")
    assert [row["method"] for row in found["metrics"]] == [row["method"] for row in rows]

    with np.load(tmp_path / "curves.npz") as arrays:
        np.testing.assert_array_equal(
            arrays["deletion/rise"], results.curves["deletion"]["rise"].numpy()
        )
        np.testing.assert_array_equal(
            arrays["values/insertion/ours"], results.values["insertion"]["ours"].numpy()
        )


def test_a_number_that_json_does_not_know_is_refused(tmp_path: Path) -> None:
    results = several()
    results.uncertainty_curves = {"reliability": {"predicted": [float("nan")]}}
    with pytest.raises(ValueError, match="JSON"):
        results.save(tmp_path)
