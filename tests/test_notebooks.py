"""The notebooks run from start to end, without warnings, on what the packages ship."""

import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("efficientnet_lite_pytorch")
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN: dict[str, Any] = runpy.run_path(str(ROOT / "docs/run_notebooks.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_warnings(path: Path, tmp_path: Path) -> None:
    shown = RUN["outputs"](RUN["executed"](path, tmp_path))
    assert [output.text for output in shown if output.get("name") == "stderr"] == []
    assert any("image/jpeg" in output.get("data", {}) for output in shown)


def test_kept_outputs_are_small() -> None:
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        assert path.stat().st_size < 300_000, f"{path.name}: fewer or smaller pictures"
