"""Results of an evaluation on disk."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.verdicts import Comparison, Verdict
from tests.helpers.constructed_results import IMAGES, RUN_METADATA, results, several


def test_files_hold_everything(tmp_path: Path) -> None:
    scores = several().extended(left_out=["Something."])
    report = UncertaintyReport(
        (Verdict("level", "Unsure."),),
        {"ece": {"P(1-P)": scores.intervals["insertion"]["explainer"]}},
        roles={"P(1-P)": Role.EXPLAINER},
        left_out=("Third.",),
    )
    comparison = Comparison((Verdict("better", "It wins."),), ("Second.",))
    results(scores, comparison=comparison, uncertainty=report).save(tmp_path)

    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * (4 + 2)
    by_name = {(row["method"], row["metric"]): row for row in rows}
    assert float(by_name["explainer", "insertion"]["mean"]) == pytest.approx(0.8)
    low, high = (float(by_name["explainer", "insertion"][name]) for name in ("low", "high"))
    assert 0.78 < low < 0.8 < high < 0.82
    assert by_name["explainer", "insertion"]["images"] == str(IMAGES)
    assert float(by_name["rise", "seconds"]["mean"]) == 0.9
    assert float(by_name["rise", "bytes"]["mean"]) == 2**20

    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["verdicts"] == [{"judgement": "better", "text": "It wins."}]
    assert found["run_metadata"] == RUN_METADATA
    assert found["roles"]["oracle"] == "oracle"
    assert found["left_out"] == ["Something.", "Second.", "Third."]
    assert found["uncertainty"]["verdicts"][0]["text"] == "Unsure."
    (number,) = found["uncertainty"]["metrics"]
    assert (number["metric"], number["uncertainty"]) == ("ece", "P(1-P)")
    assert number["role"] == "explainer"
    assert [row["method"] for row in found["metrics"]] == [row["method"] for row in rows]

    with np.load(tmp_path / "curves.npz") as arrays:
        np.testing.assert_array_equal(
            arrays["deletion/rise"], scores.curves["deletion"]["rise"].numpy()
        )
        np.testing.assert_array_equal(
            arrays["values/insertion/explainer"], scores.values["insertion"]["explainer"].numpy()
        )


def test_a_number_that_json_does_not_know_is_refused(tmp_path: Path) -> None:
    report = UncertaintyReport(curves={"reliability": {"predicted": [float("nan")]}})
    with pytest.raises(ValueError, match="JSON"):
        results(uncertainty=report).save(tmp_path)
