"""Optional packages, imported when a method asks for them."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def optional(module: str, *, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Import path, such as ``skimage.segmentation``.
        extra: Name of the extra of this package that installs it.

    Raises:
        ValueError: If the package is not installed.
    """
    if find_spec(module.partition(".")[0]) is None:
        raise ValueError(
            f"Expected the optional extra {extra} for this method. Not found: "
            f"pip install 'saliency-vae[{extra}]'."
        )
    return import_module(module)
