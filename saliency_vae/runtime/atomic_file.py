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
    """Give a name beside ``path`` to write to; what was written takes ``path``'s place at the end.

    If it cannot be written, an earlier file at ``path`` stays as it was. Of several writers each
    has a name of its own, and the last one's file stays.

    Args:
        path: Of the file; its directory is made if needed.

    Raises:
        OSError: If it cannot be written, naming ``path``.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as opened:
            if not _is_ours(opened, partial):
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
            raise  # of another file, such as one of those that are written together with this one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _is_ours(opened: IO[bytes], partial: Path) -> bool:
    """Lock a file; False if another process writes to it, or has just put it in its place.

    What a killed writer left is locked by no one, and is written over.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(opened.fileno()), partial.stat())
    except OSError:
        return False


def write_whole(path: Path, content: bytes | bytearray | memoryview | str) -> None:
    """Write a file that is whole or not there.

    Raises:
        OSError: If it cannot be written, naming ``path``.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
