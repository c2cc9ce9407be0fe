"""Finished parts of an evaluation, kept on disk, so that a killed evaluation can resume.

Several processes may compute them, one partition each.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_vae.inference.partition import Partition
from saliency_vae.runtime.atomic_file import whole_file, write_whole

Part = dict[str, Any]  # nested dictionaries of tensors and numbers
_SETTINGS = "settings.json"
_WHOLE = Partition()


class Progress:
    """Finished parts, one file each.

    Args:
        directory: Directory of the files; None keeps nothing.
        partition: Partition of the parts that this process computes.

    Example:
        >>> from tempfile import mkdtemp
        >>> progress = Progress(Path(mkdtemp()))
        >>> progress.part("first", lambda: {"seconds": 1.5})
        {'seconds': 1.5}
        >>> progress.part("first", lambda: {"seconds": 2.5})
        {'seconds': 1.5}
    """

    def __init__(self, directory: Path | None = None, partition: Partition = _WHOLE) -> None:
        self.directory = directory
        self.partition = partition

    def part(self, name: str, compute: Callable[[], Part]) -> Part:
        """Read a part, or compute and keep it.

        Args:
            name: Name of the part; slashes make directories.
            compute: Function that computes the part.
        """
        if self.directory is None:
            return compute()
        file = self.directory / f"{name}.pt"
        if file.is_file():
            found: Part = torch.load(file, weights_only=True)
            return found
        part = compute()
        with whole_file(file) as partial:
            torch.save(part, partial)
        return part

    def rows(
        self, name: str, rows: slice, compute: Callable[[], Part], turn: int = 0
    ) -> Part | None:
        """Read the part of some images, or compute and keep it.

        The images may lie within a larger saved part, so a ``batch_size`` that divides an earlier
        one loses no work.

        Args:
            name: Name of all parts of this kind; slashes make directories.
            rows: Numbers of the images, from start to stop.
            compute: Function that computes the part: tensors with a row for each of the images, or
                for the first ones, and numbers that are sums over the images.
            turn: Number of the part. The process whose partition number equals turn modulo the
                number of partitions computes it.

        Returns:
            The part; None if it belongs to another partition.
        """
        if turn % self.partition.count != self.partition.number:
            return None
        if self.directory is not None:
            for file in (self.directory / name).glob("*-*.pt"):
                start, stop = map(int, file.stem.split("-"))
                if start <= rows.start and rows.stop <= stop:
                    whole = torch.load(file, weights_only=True)
                    inside = slice(rows.start - start, rows.stop - start)
                    found: Part = _rows(whole, inside, stop - start)
                    return found
        return self.part(f"{name}/{rows.start}-{rows.stop}", compute)

    def is_complete(self) -> bool:
        """Mark this partition as done, and return whether all are."""
        count = self.partition.count
        if self.directory is None or count == 1:
            return True
        done = [self.directory / "done" / f"{number}-{count}" for number in range(count)]
        write_whole(done[self.partition.number], "")
        return all(file.is_file() for file in done)

    def remove(self) -> None:
        """Remove all parts, once the results are written."""
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)


def _rows(part: Any, inside: slice, whole: int) -> Any:
    """Select some of the images of a part, see :meth:`Progress.rows`."""
    if isinstance(part, dict):
        return {name: _rows(value, inside, whole) for name, value in part.items()}
    if isinstance(part, Tensor):
        return part[inside]
    return type(part)(part * (inside.stop - inside.start) / whole)


def begin(directory: Path, settings: Mapping[str, Any], partition: Partition = _WHOLE) -> Progress:
    """Begin an evaluation, or resume one with the same settings.

    Args:
        directory: Directory of the parts.
        settings: Settings that the parts depend on, as plain values.
        partition: Partition of the parts that this process computes.

    Raises:
        ValueError: If the directory holds parts of an evaluation with other settings.
    """
    file = directory / _SETTINGS
    plain = json.loads(json.dumps(settings))
    if not file.is_file():
        write_whole(file, json.dumps(plain, indent=2))
        return Progress(directory, partition)
    before = json.loads(file.read_text())
    keys = [key for key in {**before, **plain} if before.get(key) != plain.get(key)]
    if keys:
        begun = ", ".join(f"{key}={before.get(key)}" for key in keys)
        now = ", ".join(f"{key}={plain.get(key)}" for key in keys)
        raise ValueError(
            f"Expected the settings of the evaluation that was begun in {directory.parent}, "
            f"{begun}. Found {now}. Another hydra.run.dir begins a new one."
        )
    if partition.count == 1:
        print(f"Going on with the evaluation that was begun in {directory.parent}.")  # noqa: T201
    return Progress(directory, partition)
