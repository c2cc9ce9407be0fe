"""Loggers of the metrics: ``metrics.csv``, and W&B, which never asks for input."""

import csv
import os
import secrets
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from saliency_vae.runtime.atomic_file import whole_file, write_whole

_FLUSH = "WANDB__TRANSACTION_LOG_FLUSH_INTERVAL"  # seconds of logs lost in a kill; default 15


class MetricsCSV(Logger):
    """Writes one row for each logged step; a resumed run continues the same file.

    Metrics logged later for the same step, such as those of a validation, are added to its row, and
    metrics logged again replace the earlier values, so each step is in the file once. Lightning's
    own CSVLogger deletes the earlier rows of a resumed run.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self._first_step: int | None = None
        self._columns: list[str] | None = None
        self._last: dict[str, str] = {}  # last row, as it is in the file

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

    def start(self, step: int) -> None:
        """Set the first step of this part of the run; existing rows from it on are outdated.

        They are removed when something is logged. Without this call, the rows from the first
        logged step on are removed.

        Args:
            step: Number of steps done before.
        """
        self._first_step = step

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write a row, or add to the last one."""
        if self._columns is None:
            self._keep_earlier(step or 0)
        columns = self._columns or []
        row = {"step": str(step), **{name: str(value) for name, value in metrics.items()}}
        is_new = row["step"] != self._last.get("step")
        row = row if is_new else self._last | row
        if row == self._last:
            return
        self._columns = list(dict.fromkeys([*columns, *row]))
        if is_new and self._columns == columns:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, columns).writerow(row)
        else:
            self._rewrite([*(self._read() if is_new else self._read()[:-1]), row])
        self._last = row

    def _keep_earlier(self, step: int) -> None:
        """Keep the rows of an earlier part of this run, except those of steps that are repeated."""
        first = step if self._first_step is None else self._first_step
        rows = self._read()
        kept = [row for row in rows if int(row["step"]) < first]
        self._columns = list(kept[0]) if kept else []
        self._last = kept[-1] if kept else {}
        if rows:
            self._rewrite(kept)

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            lines = [line for line in file if line.endswith("\n")]  # a full disk may cut the last
        return list(csv.DictReader(lines))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
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

    A resumed run continues the same W&B run. Offline, each part has a directory, and ``wandb sync``
    uploads them as one run. Steps that are repeated after a kill appear twice.

    Args:
        save_dir: Directory of W&B's files.
        project: Name of the W&B project.
        name: Name of the experiment; the name of the run's own directory is appended.
        offline: Whether to stay offline; None searches for a key.

    Raises:
        ValueError: If nothing can be written to save_dir, or W&B is not installed.
    """
    wandb = _wandb()
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
    silent = mode in ("offline", "disabled")  # W&B would say what the line above says
    logger = WandbLogger(
        project=project,
        name=f"{name}/{Path(save_dir).name}" if name else None,
        save_dir=save_dir,
        mode=mode,
        id=run_id,
        settings=wandb.Settings(silent=True) if silent else None,
        resume="allow",  # offline, too: wandb sync then adds a resumed part to the run
    )
    logger._wandb_init.pop("anonymous", None)  # Lightning sets it, and W&B warns of it
    return logger


def _wandb() -> ModuleType:
    """Load W&B, which only a run that logs to it needs."""
    os.environ.setdefault(_FLUSH, "1")
    os.environ.setdefault("WANDB_DISABLE_WEAVE", "true")  # W&B advertises it beside transformers
    try:
        import wandb  # slow, and not always installed

        return wandb
    except ModuleNotFoundError:
        raise ValueError(
            "Expected the package wandb for logger=wandb. Not found: pip install wandb, or leave "
            "W&B out with logger=csv."
        ) from None


def _wandb_id(path: Path) -> str | None:
    """W&B id of this run, kept in a file so that a resumed run continues under the same one.

    None in all processes of a run except the first, the only one that logs.
    """
    if getattr(rank_zero_only, "rank", 0):
        return None
    if not path.exists():
        write_whole(path, secrets.token_hex(4))
    return path.read_text()
