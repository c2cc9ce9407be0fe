"""Going on with an earlier run."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from omegaconf import OmegaConf

LAST = Path("checkpoints/last.ckpt")


def with_overrides_of_run(arguments: list[str]) -> list[str]:
    """Put a run's own overrides before those that resume it.

    ``ckpt_path=last hydra.run.dir=RUN`` alone names no experiment; RUN knows it. What is given
    now wins over what was given then. A run that was killed before its first checkpoint starts
    anew.

    Args:
        arguments: Of the command line.

    Returns:
        Arguments for Hydra.
    """
    given = dict(a.split("=", 1) for a in arguments if "=" in a and not a.startswith("-"))
    earlier = Path(given.get("hydra.run.dir", "").strip("\"'")) / ".hydra/overrides.yaml"
    if given.get("ckpt_path") != "last" or not earlier.is_file():
        return arguments
    overrides = [str(override) for override in OmegaConf.load(earlier)]
    if not (earlier.parents[1] / LAST).is_file():
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


def how_to_resume(run: Path) -> str:
    """Say what to type to go on with a run."""
    return f"To go on: python -m saliency_vae.train ckpt_path=last hydra.run.dir={run}"
