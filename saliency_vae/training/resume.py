"""Going on with an earlier run."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from omegaconf import OmegaConf

LAST = Path("checkpoints/last.ckpt")
_WRITTEN = {"state_dict", "classifier", "explainer", "overrides"}


def with_overrides_of_run(arguments: list[str]) -> list[str]:
    """Put a run's own overrides before those that resume it.

    ``ckpt_path=last hydra.run.dir=RUN`` alone names no experiment; RUN's checkpoint knows it: what
    Hydra writes in RUN may be of a command that was refused. What is given now wins over what was
    given then. A run that was killed before its first checkpoint starts anew.

    Args:
        arguments: Of the command line.

    Returns:
        Arguments for Hydra.
    """
    given = dict(a.split("=", 1) for a in arguments if "=" in a and not a.startswith("-"))
    earlier = Path(given.get("hydra.run.dir", "").strip("\"'")) / ".hydra/overrides.yaml"
    if given.get("ckpt_path") != "last" or not earlier.is_file():
        return arguments
    last = earlier.parents[1] / LAST
    try:
        overrides = read_checkpoint(last)["overrides"]
    except ValueError:
        overrides = [str(override) for override in OmegaConf.load(earlier)]
    if not last.is_file():
        rank_zero_info("No checkpoint yet: the run starts anew.")
        arguments = [a for a in arguments if a != "ckpt_path=last"]
    return [o for o in overrides if o.split("=", 1)[0] not in given] + arguments


def checkpoint_path(ckpt_path: str | None, run: Path) -> Path | None:
    """File to resume from, if any.

    Args:
        ckpt_path: None, ``last`` for the run's own last checkpoint, or a file.
        run: The run's directory.

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
    """Read a checkpoint of a run, its tensors without their values; nothing of it is run.

    Raises:
        ValueError: If it is none.
    """
    try:
        found = torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:  # pickle's, zip's and torch's, with no common base
        found = type(error).__name__
    if not isinstance(found, dict) or not found.keys() >= _WRITTEN:
        what = found if isinstance(found, str) else "another file, or one of an earlier version"
        raise ValueError(f"Expected ckpt_path={path} to be a checkpoint of a run. Found {what}.")
    return found


def how_to_resume(run: Path) -> str:
    """Say what to type to go on with a run; its own settings may hold relative paths."""
    return (
        "To go on, from the same directory: "
        f"python -m saliency_vae.train ckpt_path=last hydra.run.dir={run}"
    )
