"""Atomic files: complete or absent, even if the process is killed or the disk is full."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; at the end, the new file replaces ``path``.

    If it cannot be written, an earlier file at ``path`` stays as it was. Concurrent writers get
    separate temporary paths, and the file of the last one stays.

    Args:
        path: Path of the file; its directory is made if needed.

    Raises:
        OSError: If the file cannot be written, naming ``path``.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as opened:
            if not _lock(opened, partial):
                partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
            try:
                yield partial
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
    except OSError as error:
        named = error.filename
        if named is not None and Path(os.fsdecode(named)) not in (partial, *path.parents):
            raise  # about another file, such as one that is written together with this one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _lock(opened: IO[bytes], partial: Path) -> bool:
    """Lock a partial file; False if another process writes to it, or has just moved it to its path.

    The file of a killed writer is not locked, and is overwritten.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(opened.fileno()), partial.stat())
    except OSError:
        return False


def write_whole(path: Path, content: bytes | bytearray | memoryview | str) -> None:
    """Write a file atomically: it is complete or absent.

    Args:
        path: Path of the file; its directory is made if needed.
        content: Content of the file, text in UTF-8.

    Raises:
        OSError: If the file cannot be written, naming ``path``.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
