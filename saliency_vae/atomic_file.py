"""Files that are whole or not there, whenever the process is killed and however full the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name beside ``path`` to write to; what was written takes ``path``'s place at the end.

    If it cannot be written, an earlier file at ``path`` stays as it was.

    Args:
        path: Of the file; its directory is made if needed.

    Raises:
        OSError: If it cannot be written, naming ``path``.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        if partial.is_file():
            partial.unlink()


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file that is whole or not there.

    Raises:
        OSError: If it cannot be written, naming ``path``.
    """
    with whole_file(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode())
