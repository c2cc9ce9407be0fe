"""Paths of many files, held so that loader processes share their memory."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


class PathList(Sequence[Path]):
    """Sequence of paths stored in one array of bytes; each ``Path`` is built on access.

    Each loader process would end up copying a plain list of a million paths: reading a Python
    object changes its reference count, and so the memory that it lies in.

    Args:
        paths: Paths.

    Example:
        >>> PathList([Path("a.png"), Path("b/c.png")])[1].as_posix()
        'b/c.png'
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        encoded = [os.fsencode(path) for path in paths]
        self._bytes = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self._ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> list[Path]: ...
    def __getitem__(self, index: int | slice) -> Path | list[Path]:
        """Path at an index, or list of the paths in a slice."""
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self[place] for place in places]
        found = self._bytes[self._ends[places] : self._ends[places + 1]]
        return Path(os.fsdecode(found.tobytes()))
