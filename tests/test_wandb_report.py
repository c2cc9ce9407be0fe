"""The results of an evaluation at W&B, offline."""

from pathlib import Path
from typing import Any

import pytest
import wandb

from saliency_vae.evaluation_figures import figures
from saliency_vae.loggers import wandb_logger
from saliency_vae.wandb_report import log_results
from tests.constructed_results import several


def test_numbers_table_and_figures_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, Any] = {}
    log = wandb.Run.log

    def spy(run: wandb.Run, data: dict[str, Any]) -> None:
        logged.update(data)
        log(run, data)

    monkeypatch.setattr(wandb.Run, "log", spy)
    results = several()
    drawn = figures(results)
    logger = wandb_logger(str(tmp_path), name="evaluation", offline=True)
    log_results(logger, results, {"speed": drawn["speed"]})
    assert wandb.run is None  # it has ended

    assert logged["insertion/ours"] == pytest.approx(0.8)
    assert logged["seconds/rise"] == 0.9
    table = logged["evaluation"]
    assert table.columns == ["method", "metric", "mean", "low", "high"]
    assert len(table.data) == 5 * 4
    (row,) = (row for row in table.data if row[:2] == ["rise", "deletion"])
    assert row[2:] == pytest.approx([0.3, 0.29, 0.31], abs=0.005)

    (run,) = tmp_path.glob("wandb/offline-run-*")
    kept = [path.name for path in run.rglob("*") if path.is_file()]
    assert any(name.endswith(".table.json") for name in kept)
    assert any(name.startswith("speed") and name.endswith(".png") for name in kept)
