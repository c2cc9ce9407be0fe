"""Parts of an evaluation that are done, kept on disk: a killed evaluation goes on where it was."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from saliency_vae.runtime.atomic_file import whole_file, write_whole

Part = dict[str, Any]  # nested dictionaries of tensors and numbers
_SETTINGS = "settings.json"


class Progress:
    """Parts that are done, one file each.

    Args:
        directory: Directory of the files; None keeps nothing.

    Example:
        >>> from tempfile import mkdtemp
        >>> progress = Progress(Path(mkdtemp()))
        >>> progress.part("first", lambda: {"seconds": 1.5})
        {'seconds': 1.5}
        >>> progress.part("first", lambda: {"seconds": 2.5})
        {'seconds': 1.5}
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory

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

    def remove(self) -> None:
        """Remove all parts, once the results are written."""
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)


def begin(directory: Path, settings: Mapping[str, Any]) -> Progress:
    """Begin an evaluation, or go on with one of the same settings.

    Args:
        directory: Directory of the parts.
        settings: Settings that the parts depend on, plain values.

    Raises:
        ValueError: If the directory holds parts of an evaluation with other settings.
    """
    file = directory / _SETTINGS
    plain = json.loads(json.dumps(settings))
    if not file.is_file():
        write_whole(file, json.dumps(plain, indent=2))
        return Progress(directory)
    before = json.loads(file.read_text())
    keys = [key for key in {**before, **plain} if before.get(key) != plain.get(key)]
    if keys:
        begun = ", ".join(f"{key}={before.get(key)}" for key in keys)
        now = ", ".join(f"{key}={plain.get(key)}" for key in keys)
        raise ValueError(
            f"Expected the settings of the evaluation that was begun in {directory.parent}, "
            f"{begun}. Found {now}. Another hydra.run.dir begins a new one."
        )
    print(f"Going on with the evaluation that was begun in {directory.parent}.")  # noqa: T201
    return Progress(directory)
