"""A separate directory for each run, even if two start in the same second."""

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class OwnDirectory(Callback):
    """Names a run after its data, unless it has a name, and takes a directory for it.

    This is the configured directory or, if that is taken, the next free one. A directory given on
    the command line is used as it is. If ``torchrun`` or ``srun`` start several processes of one
    run, only the first process takes the directory.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the directory of a single run."""
        _name(config)
        from lightning.pytorch.utilities import rank_zero_only  # --help does not wait for Lightning

        if getattr(rank_zero_only, "rank", 0):
            config.hydra.output_subdir = None
        elif not is_given("hydra.run.dir", config):
            config.hydra.run.dir = str(take(Path(config.hydra.run.dir)))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the directory of a sweep."""
        _name(config)
        if not is_given("hydra.sweep.dir", config):
            config.hydra.sweep.dir = str(take(Path(config.hydra.sweep.dir)))


def take(directory: Path) -> Path:
    """Take a directory that no other process has taken.

    Args:
        directory: Directory to take, if it is free.

    Returns:
        The directory, or one with ``_2``, ``_3``, ... added to its name. This call has made
        ``.hydra`` in it.
    """
    own, number = directory, 1
    while True:
        try:
            (own / ".hydra").mkdir(parents=True)
            return own
        except FileExistsError:
            number += 1
            own = directory.with_name(f"{directory.name}_{number}")
        except OSError:
            return own  # Hydra will fail in the same way, and its error will be reported


def _name(config: DictConfig) -> None:
    """Name a run after its data option, if neither its experiment nor its user names it."""
    if "name" in config and config.name is None:
        config.name = config.hydra.runtime.choices.data


def is_given(key: str, config: DictConfig | None = None) -> bool:
    """Whether the command line sets one of Hydra's own settings.

    Args:
        key: Name of the setting.
        config: Configuration that includes Hydra's; None once the command runs.
    """
    given = (HydraConfig.get() if config is None else config.hydra).overrides.hydra
    return any(str(o).startswith(f"{key}=") for o in given)
