"""A disk that gets full: a small file system if it may be mounted, else a limit on file sizes."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

_LEFT = 20_000  # bytes: less than any checkpoint or explainer, enough for a few rows of metrics


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """Mount a file system of 4 MB, if this user may."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield directory
    finally:
        if mounted:
            subprocess.run(["umount", str(directory)], check=True)


def fill(disk: Path) -> None:
    """Leave almost no space, on a small disk; elsewhere, allow this process no large files."""
    if not disk.is_mount():
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LEFT, _LEFT))
        return
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    ballast = disk / "ballast"
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - _LEFT)


def free(disk: Path) -> None:
    """Make space again."""
    (disk / "ballast").unlink(missing_ok=True)


class Fill(Callback):
    """Fills the disk before a step.

    Args:
        disk: Directory to fill.
        step: Optimizer steps that come before.
    """

    def __init__(self, disk: Path, step: int) -> None:
        self.disk, self.step = disk, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            fill(self.disk)


def fill_and_run(disk: Path, function: Any, *arguments: Any) -> None:
    """Fill the disk, then run a function."""
    fill(disk)
    function(*arguments)
