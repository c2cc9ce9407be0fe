"""Optional packages, which a method asks for when it is built and imports when it runs."""

from importlib.util import find_spec


def require(package: str, *, extra: str) -> None:
    """Refuse to go on without an optional package.

    Args:
        package: Name that the package is imported by.
        extra: Name of the extra of this package that installs it.

    Raises:
        ValueError: If the package is not installed.
    """
    if find_spec(package) is None:
        raise ValueError(
            f"Expected the optional extra {extra} for this method. Not found: "
            f"pip install 'saliency-vae[{extra}]'."
        )
