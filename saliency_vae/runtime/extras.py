"""Optional packages: where one is missing, the error names it and the extra that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


class MissingExtraError(ValueError):
    """An optional package is not installed.

    Args:
        message: One line that says so.
        extra: Name of the extra of this package that installs it.
    """

    def __init__(self, message: str, extra: str = "") -> None:
        super().__init__(message)  # alone: pickle calls the class with it
        self.extra = extra


def pip_install(extra: str) -> str:
    """Command that installs an extra of this package.

    Example:
        >>> pip_install("captum")
        "pip install 'saliency-vae[captum]'"
    """
    return f"pip install 'saliency-vae[{extra}]'"


def require(*packages: str, extra: str, wanted_by: str) -> None:
    """Refuse to go on without optional packages; they are not imported yet.

    Args:
        packages: Names that they are imported by.
        extra: Name of the extra of this package that installs them.
        wanted_by: What needs them.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise _missing(", ".join(missing), extra, wanted_by)


@contextmanager
def importing(package: str, *, extra: str, wanted_by: str) -> Iterator[None]:
    """Import an optional package within the block.

    Args:
        package: Name that it is imported by.
        extra: Name of the extra of this package that installs it.
        wanted_by: What needs it.

    Raises:
        MissingExtraError: If it cannot be imported.
    """
    try:
        yield
    except ImportError:
        raise _missing(package, extra, wanted_by) from None


def _missing(packages: str, extra: str, wanted_by: str) -> MissingExtraError:
    return MissingExtraError(
        f"Expected the optional extra {extra} for {wanted_by}. "
        f"Not found: {packages}: {pip_install(extra)}.",
        extra,
    )
