"""Going on with an earlier run."""

from pathlib import Path

from omegaconf import OmegaConf


def with_overrides_of_run(arguments: list[str]) -> list[str]:
    """Put a run's own overrides before those that resume it.

    ``ckpt_path=last hydra.run.dir=RUN`` alone names no experiment; RUN knows it. What is given
    now wins over what was given then.

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
    path = run / "checkpoints/last.ckpt" if ckpt_path == "last" else Path(ckpt_path)
    if not path.is_file():
        hint = "hydra.run.dir=DIR names the run to resume." if ckpt_path == "last" else ""
        raise ValueError(
            f"Expected ckpt_path={ckpt_path} to be a checkpoint. Not found: {path}. {hint}"
        )
    return path
