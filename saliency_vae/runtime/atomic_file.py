"""Files that are whole or not there, whenever the process is killed and however full the disk."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; at the end the new file takes the place of the old.

    If it cannot be written, an earlier file at ``path`` stays as it was. Each of several writers
    has a path of its own, and the file of the last one stays.

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
    """Lock a file; False if another process writes to it, or has just put it in its place.

    The file of a killed writer is not locked, and is written over.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(opened.fileno()), partial.stat())
    except OSError:
        return False


def write_whole(path: Path, content: bytes | bytearray | memoryview | str) -> None:
    """Write a file that is whole or not there.

    Args:
        path: Path of the file; its directory is made if needed.
        content: Content of the file, text in UTF-8.

    Raises:
        OSError: If the file cannot be written, naming ``path``.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
