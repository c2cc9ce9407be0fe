"""Builders of the classifier to explain: models of other libraries, and the user's own.

Configurations and saved explainers refer to these functions by import paths in this module.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.hugging_face import huggingface_classifier
from saliency_vae.classifiers.state_dict import load_weights
from saliency_vae.classifiers.targets import Output
from saliency_vae.classifiers.timm_models import timm_classifier
from saliency_vae.classifiers.torchvision_models import torchvision_classifier
from saliency_vae.data import MINIMUM_SIZE, Preprocessing
from saliency_vae.runtime.text import described

__all__ = [
    "custom_classifier",
    "huggingface_classifier",
    "timm_classifier",
    "torchvision_classifier",
]


def custom_classifier(
    module: str,
    weights: str | Path,
    arguments: Mapping[str, Any] | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    output: Output = "softmax",
    resize_size: int | tuple[int, int] | None = None,
    crop_size: int | tuple[int, int] | None = None,
    categories: list[str] | str | None = None,
) -> FrozenClassifier:
    """Build the user's own classifier. This runs the code that the import path names.

    Args:
        module: Import path of an ``nn.Module`` class or of a function that returns one, such as
            ``my_package.models.build``.
        weights: State dict: ``.safetensors``, or a PyTorch file (read with ``weights_only``).
        arguments: Keyword arguments of the class or function.
        mean: Value subtracted from each channel of images in [0, 1].
        std: Value that each channel is divided by after that, > 0.
        output: Kind of output, see :class:`FrozenClassifier`.
        resize_size: Shorter side of the images in pixels, or height and width; None keeps the size.
        crop_size: Side of the centre crop in pixels, or height and width; None crops nothing.
        categories: Names of the classes, or a text file with one name per line.

    Raises:
        ValueError: If the import path, arguments, weights, a size or the categories are invalid.
    """
    for setting, size in (("resize_size", resize_size), ("crop_size", crop_size)):
        if size is not None and min(_pair(size)) < MINIMUM_SIZE:
            raise ValueError(
                f"Expected classifier.{setting} >= {MINIMUM_SIZE} pixels. Found {size}."
            )
    network = _build_network(module, arguments or {})
    try:
        load_weights(network, Path(weights))
    except RuntimeError as error:
        raise ValueError(
            f"Expected classifier.weights {weights} to fit {module}. {shorten(str(error), 400)}"
        ) from None
    return FrozenClassifier(
        network,
        name=module,
        weights=Path(weights).name,
        mean=mean,
        std=std,
        output=output,
        categories=_names_in(categories) if isinstance(categories, str) else categories,
        preprocessing=Preprocessing(
            resize_size=resize_size if isinstance(resize_size, int | None) else _pair(resize_size),
            crop_size=None if crop_size is None else _pair(crop_size),
        ),
    )


def _names_in(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            "Expected classifier.categories to be a list of names, or a text file with one name a "
            f"line. Found {path} ({described(error)})."
        ) from None


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _build_network(module: str, arguments: Mapping[str, Any]) -> nn.Module:
    build = _import(module)
    try:
        network = build(**arguments)
    except TypeError as error:
        raise ValueError(
            f"Expected classifier.arguments to be those of {module}. "
            f"Found {dict(arguments)} ({error})."
        ) from None
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"Expected classifier.module {module} to give an nn.Module. Found {type(network)}."
        )
    return network


def _import(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            "Expected classifier.module to be an import path such as my_package.models.build. "
            f"Found {path!r} ({error})."
        ) from None
    return found
