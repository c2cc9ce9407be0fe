"""The results of an evaluation at W&B, offline."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb

from saliency_vae.evaluation.report.charts import figures
from saliency_vae.evaluation.report.wandb_tables import log_results
from saliency_vae.evaluation.verdicts import Comparison, Verdict
from saliency_vae.runtime.loggers import wandb_logger
from tests.helpers.constructed_results import results, several, uncertainty


def test_numbers_table_and_figures_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, Any] = {}
    log = wandb.Run.log

    def spy(run: wandb.Run, data: dict[str, Any]) -> None:
        logged.update(data)
        log(run, data)

    monkeypatch.setattr(wandb.Run, "log", spy)
    scores = several()
    reverse = {method: -values for method, values in scores.values["insertion"].items()}
    scores = replace(
        scores.extended({"insertion_zero": reverse, "iou": {"rise": torch.ones(4)}}),
        passes={"rise": 300.0},
    )
    found = results(
        scores,
        comparison=Comparison((Verdict("better", "It wins."),)),
        uncertainty=replace(uncertainty(), verdicts=(Verdict("level", "Unsure."),)),
    )
    report = tmp_path / "report.html"
    report.write_text("<!doctype html><p>What was found.</p>")
    drawn = figures(found)
    logger = wandb_logger(str(tmp_path), name="evaluation", offline=True)
    log_results(logger, found, {"speed": drawn["speed"]}, report)
    assert wandb.run is None  # it has ended

    assert logged["insertion/explainer"] == pytest.approx(0.8)
    assert logged["seconds/rise"] == 0.9
    assert logged["passes/rise"] == 300
    table = logged["evaluation"]
    assert table.columns == ["method", "metric", "mean", "low", "high"]
    assert len(table.data) == 5 * 5 + 1
    (row,) = (row for row in table.data if row[:2] == ["rise", "deletion"])
    assert row[2:] == pytest.approx([0.3, 0.29, 0.31], abs=0.005)

    ranking = logged["ranking"]
    assert ranking.columns == [
        "method",
        "Insertion AUC",
        "Deletion AUC",
        "Agreement 5 %",
        "Sparsity",
        "Insertion AUC over zero",
        "IoU",
        "passes",
        "ms",
    ]
    assert [row[0] for row in ranking.data] == [
        "oracle",
        "this explainer",
        "RISE",
        "Grad-CAM",
        "random",
    ]
    assert ranking.data[2][-3:] == ["1.000 [1.000, 1.000]", "300", "900"]
    assert ranking.data[3][-3:] == ["", "", "1"]
    assert re.fullmatch(r"\.700 \[\.6\d\d, \.7\d\d\]", ranking.data[2][1])
    assert logged["uncertainty"].columns == ["uncertainty", "Spearman, top 10 %", "ECE"]
    assert logged["uncertainty"].data == [
        ["this explainer, P(1-P)", ".500 [.400, .600]", ".500 [.400, .600]"],
        ["control, it", ".500 [.400, .600]", ""],
    ]
    assert logged["verdicts"].data == [["better", "It wins."], ["level", "Unsure."]]

    reversals = logged["rank_reversals"]
    assert len(reversals.data) == 6  # of four methods without the oracle, each pair
    assert reversals.data[0][:4] == [
        "random",
        "this explainer",
        "zero",
        "the first baseline image",
    ]

    (run,) = tmp_path.glob("wandb/offline-run-*")
    kept = [path.name for path in run.rglob("*") if path.is_file()]
    assert sum(name.endswith(".table.json") for name in kept) == 5
    (page,) = run.rglob("*.html")
    assert page.read_text() == report.read_text()
    assert any(name.startswith("speed") and name.endswith(".png") for name in kept)
