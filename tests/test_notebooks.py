"""The notebooks run from start to end, without warnings, on what the packages ship."""

import runpy
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("efficientnet_lite_pytorch")
ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN: dict[str, Any] = runpy.run_path(str(ROOT / "docs/run_notebooks.py"))


def test_the_notebooks_run_without_warnings(tmp_path: Path) -> None:
    """In one kernel, which imports once; each starts with no names, in an empty directory."""
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
    whole = nbformat.v4.new_notebook()
    for name, notebook in notebooks.items():
        (tmp_path / name).mkdir()
        start = nbformat.v4.new_code_cell(f"%reset -f\n%cd {tmp_path / name}")
        whole.cells += [start, *notebook.cells]
    nbformat.write(whole, tmp_path / "all.ipynb")
    cells = iter(RUN["executed"](tmp_path / "all.ipynb", tmp_path).cells)
    for name, notebook in notebooks.items():
        next(cells)  # its start
        notebook.cells = [next(cells) for _ in notebook.cells]
        shown = RUN["outputs"](notebook)
        assert [output.text for output in shown if output.get("name") == "stderr"] == [], name
        assert any("image/jpeg" in output.get("data", {}) for output in shown), name


def test_kept_outputs_are_small() -> None:
    assert len(NOTEBOOKS) == 3
    for path in NOTEBOOKS:
        assert path.stat().st_size < 300_000, f"{path.name}: fewer or smaller pictures"
