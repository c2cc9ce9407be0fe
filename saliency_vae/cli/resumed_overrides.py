"""Restoring the settings of a run that is resumed, before Hydra composes anything."""

from pathlib import Path

from omegaconf import OmegaConf

from saliency_vae.cli.renamed import translated

LAST = Path("checkpoints/last.ckpt")  # in the directory of a run
# In a directory without a checkpoint, only a command that was refused recorded it.
_RESUMED = "ckpt_path=last"
_OVERRIDES = Path(".hydra/overrides.yaml")


def with_overrides_of_run(arguments: list[str]) -> list[str]:
    """Put the overrides that a run was started with before those of the command that resumes it.

    ``ckpt_path=last hydra.run.dir=RUN`` alone names no experiment; the run's last checkpoint does.
    Overrides given now take precedence. A run that was killed before its first checkpoint starts
    from scratch. A mistyped directory, in which only such a command was refused before, has no run
    to start from scratch: the command is refused again.

    Args:
        arguments: Arguments of the command line.

    Returns:
        Arguments for Hydra.
    """
    given = {_key(a): a.partition("=")[2] for a in arguments if "=" in a and a[0] != "-"}
    run = Path(given.get("hydra.run.dir", "").strip("\"'"))
    if given.get("ckpt_path") != "last" or not (run / _OVERRIDES).is_file():
        return arguments
    earlier = [translated(override) for override in _recorded(run)]
    if not (run / LAST).is_file():
        if _RESUMED in earlier:
            return arguments
        from lightning.pytorch.utilities import rank_zero_info

        rank_zero_info("No checkpoint yet: the run starts anew.")
        arguments = [a for a in arguments if a != _RESUMED]
    return [override for override in earlier if _key(override) not in given] + arguments


def _key(override: str) -> str:
    """Name of the setting that an override changes, adds or removes."""
    return override.partition("=")[0].lstrip("+~")


def _recorded(run: Path) -> list[str]:
    """Read the overrides of a run from its last checkpoint, or else from Hydra's record.

    Hydra's record may hold those of a later command that was refused; a checkpoint holds those of
    the run itself. A checkpoint that cannot be read is reported later.
    """
    import torch  # slow, and only a resumed run needs it

    try:
        checkpoint = torch.load(run / LAST, map_location="meta", weights_only=True)
        return [str(override) for override in checkpoint["overrides"]]
    except Exception:  # pickle's, zip's and torch's errors have no common base
        return [str(override) for override in OmegaConf.load(run / _OVERRIDES)]
