"""Loggers of the metrics: ``metrics.csv`` always, and W&B without ever asking for input."""

import csv
import os
import secrets
from argparse import Namespace
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from saliency_vae.runtime.atomic_file import whole_file, write_whole


class MetricsCSV(Logger):
    """Writes one row for each logged step; a resumed run goes on in the same file.

    Lightning's own CSVLogger deletes the earlier rows of a resumed run.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] | None = None

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: there is one file."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kw: Any) -> None:
        """Do nothing: ``.hydra/config.yaml`` holds the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one row."""
        row: dict[str, Any] = {"step": step, **metrics}
        columns = self._earlier_columns(step) if self._columns is None else self._columns
        self._columns = list(dict.fromkeys([*columns, *row]))
        if self._columns != columns:
            self._rewrite([*self._read(), row])
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)

    def _earlier_columns(self, step: int | None) -> list[str]:
        """Keep the rows of an earlier part of this run, except those of steps that are repeated."""
        rows = self._read()
        if not rows:
            return []
        self._columns = list(rows[0])
        self._rewrite([row for row in rows if int(row["step"]) < (step or 0)])
        return self._columns

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            lines = [line for line in file if line.endswith("\n")]  # a full disk may cut the last
        return list(csv.DictReader(lines))

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with whole_file(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns or [])
            writer.writeheader()
            writer.writerows(rows)


def wandb_logger(
    save_dir: str,
    project: str = "saliency_vae",
    name: str | None = None,
    offline: bool | None = None,
) -> WandbLogger:
    """Make a logger for W&B: online if a key is found, else offline; it never asks for input.

    Args:
        save_dir: Directory of the files of W&B.
        project: Name of the W&B project.
        name: Name of the W&B run.
        offline: Whether to stay offline; None searches for a key.

    Raises:
        ValueError: If nothing can be written to save_dir.
    """
    try:
        run_id = _wandb_id(Path(save_dir) / "wandb" / "run_id")
    except OSError as error:
        raise ValueError(
            f"Expected logger.wandb.save_dir={save_dir} to be a directory that can be written to. "
            f"Found: {error.strerror}. Name another one, or leave W&B out with logger=csv."
        ) from None
    mode = os.environ.get("WANDB_MODE")
    if offline is not None:
        mode = "offline" if offline else "online"
    elif mode is None and not wandb.login(prompt=False, verify=False):
        mode = "offline"
        rank_zero_info(
            "W&B: no key found, so the run is kept offline. "
            f"To upload it: wandb login, then wandb sync {save_dir}/wandb/offline-run-*"
        )
    return WandbLogger(
        project=project,
        name=name,
        save_dir=save_dir,
        mode=mode,
        id=run_id,
        resume="allow" if mode != "offline" else None,
    )


def _wandb_id(path: Path) -> str | None:
    """Id of this run at W&B, in a file: a resumed run goes on under the same one.

    None in all processes of a run but the first, which alone logs.
    """
    if getattr(rank_zero_only, "rank", 0):
        return None
    if not path.exists():
        write_whole(path, secrets.token_hex(4))
    return path.read_text()
