"""Optional packages: the error for a missing one names it and the extra that installs it."""

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
        super().__init__(message)  # only this: pickle calls the class with it
        self.extra = extra


def pip_install(extra: str) -> str:
    """Command that installs an extra of this package.

    Example:
        >>> pip_install("captum")
        "pip install 'saliency-vae[captum]'"
    """
    return f"pip install 'saliency-vae[{extra}]'"


def require(*packages: str, extra: str, wanted_by: str) -> None:
    """Check that optional packages are installed, without importing them.

    Args:
        packages: Import names of the packages.
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
    """Name the extra to install if the import of an optional package in the block fails.

    Args:
        package: Import name of the package.
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
