"""Execute the notebooks and keep what they show: python docs/run_notebooks.py [NAME ...]."""

import argparse
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def executed(path: Path, directory: Path) -> NotebookNode:
    """Execute a notebook in a fresh kernel.

    Args:
        path: Notebook; the file stays as it is.
        directory: Working directory, to which its cells may write.

    Raises:
        CellExecutionError: If a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client = NotebookClient(
        notebook,
        timeout=600,  # seconds, of a cell
        kernel_name="python3",  # that of this Python
        coalesce_streams=True,  # a progress bar keeps its last state
        record_timing=False,
        resources={"metadata": {"path": str(directory)}},
    )
    # Jupyter without ipywidgets: tqdm.auto, which Lightning and the Hub import, says so.
    client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress not found"})
    return notebook


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    """All outputs of a notebook's cells, in order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def main() -> None:
    """Execute notebooks in place, all or those that are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as quickstart; by default all")
    names: list[str] = parser.parse_args().names
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not names or path.stem in names:
            nbformat.write(executed(path, NOTEBOOKS), path)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
