"""The checkpoint that a run is resumed from."""

from pathlib import Path
from typing import Any

import torch

from saliency_vae.cli.resumed_overrides import LAST

_WRITTEN = {"state_dict", "classifier", "explainer", "overrides"}


def checkpoint_path(ckpt_path: str | None, run: Path) -> Path | None:
    """File to resume from, if any.

    Args:
        ckpt_path: None, ``last`` for the last checkpoint of the run itself, or a file.
        run: Directory of the run.

    Raises:
        ValueError: If there is no such file.
    """
    if ckpt_path is None:
        return None
    path = run / LAST if ckpt_path == "last" else Path(ckpt_path)
    if not path.is_file():
        hint = "hydra.run.dir=DIR names the run to resume." if ckpt_path == "last" else ""
        raise ValueError(
            f"Expected ckpt_path={ckpt_path} to be a checkpoint. Not found: {path}. {hint}"
        )
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of a run, its tensors without their values; no code in it is run.

    Raises:
        ValueError: If the file is not a checkpoint of a run.
    """
    try:
        found = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's errors have no common base
        found = type(error).__name__
    if not isinstance(found, dict) or not found.keys() >= _WRITTEN:
        what = found if isinstance(found, str) else "another file, or one of an earlier version"
        raise ValueError(f"Expected ckpt_path={path} to be a checkpoint of a run. Found {what}.")
    return found


def how_to_resume(run: Path) -> str:
    """Sentence with the command that resumes a run; its settings may hold relative paths."""
    return (
        "To go on, from the same directory: "
        f"python -m saliency_vae.train ckpt_path=last hydra.run.dir={run}"
    )
