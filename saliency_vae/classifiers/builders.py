"""Builders of the classifier to explain: torchvision and timm models, and the user's own.

Configurations and saved explainers name these functions by their import paths.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.state_dict import load_state_dict
from saliency_vae.classifiers.targets import Output
from saliency_vae.data import MINIMUM_SIZE, Preprocessing


def torchvision_classifier(
    name: str = "resnet50", weights: str | None = "DEFAULT", output: Output = "softmax"
) -> FrozenClassifier:
    """Build a torchvision classification model with the preprocessing of its weights.

    Args:
        name: Name of the model, such as ``resnet50``.
        weights: Name of the weights, such as ``IMAGENET1K_V2`` or ``DEFAULT``; None for random
            weights.
        output: Kind of output, see :class:`FrozenClassifier`.

    Raises:
        ValueError: If there is no such model or weights.
    """
    models = torchvision.models
    if name not in models.list_models(module=models):
        raise ValueError(
            "Expected classifier.name to be one of torchvision's classification models "
            f"(torchvision.models.list_models()). Found {name!r}."
        )
    if weights is None:
        return FrozenClassifier(models.get_model(name), name=f"torchvision/{name}", output=output)
    chosen = _torchvision_weights(name, weights)
    transform = chosen.transforms()
    try:
        network = models.get_model(name, weights=chosen)
    except OSError as error:
        raise ValueError(
            f"Expected classifier.weights={weights} of {name} in torch's cache or to download. "
            f"Found neither ({error}). Random weights: classifier.weights=null."
        ) from None
    return FrozenClassifier(
        network,
        name=f"torchvision/{name}",
        weights=chosen.name,
        mean=transform.mean,
        std=transform.std,
        output=output,
        categories=chosen.meta["categories"],
        preprocessing=Preprocessing(
            resize_size=transform.resize_size[0],
            crop_size=(transform.crop_size[0], transform.crop_size[0]),
            interpolation=transform.interpolation.value,
        ),
    )


def _torchvision_weights(name: str, weights: str) -> WeightsEnum:
    available = torchvision.models.get_model_weights(name)
    try:
        chosen: WeightsEnum = available[weights]
    except KeyError:
        names = ", ".join(member.name for member in available)
        raise ValueError(
            f"Expected classifier.weights of {name} to be one of DEFAULT, {names}. "
            f"Found {weights!r}."
        ) from None
    return chosen


def timm_classifier(
    name: str, pretrained: bool = True, output: Output = "softmax"
) -> FrozenClassifier:
    """Build a timm model with the preprocessing of its weights.

    Args:
        name: Name of the model and its weights, such as ``resnet18.a1_in1k``.
        pretrained: Load the weights from the hub; False for random weights.
        output: Kind of output, see :class:`FrozenClassifier`.

    Raises:
        ValueError: If timm is not installed or has no such model.
    """
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ImportError:
        raise ValueError(
            "Expected the optional extra timm for classifier=timm. Not found: "
            "pip install 'saliency-vae[timm]'."
        ) from None
    if not timm.is_model(name):
        raise ValueError(
            f"Expected classifier.name to be one of timm.list_models(). Found {name!r}."
        )
    try:
        network = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # the hub and its HTTP library have no common base of errors
        raise ValueError(
            f"Expected classifier.name={name} to be one of timm.list_pretrained(), its weights in "
            f"the hub's cache or to download. Found {' '.join(str(error).split())}"
        ) from None
    data = resolve_model_data_config(network)  # type: ignore[no-untyped-call]  # timm's
    return FrozenClassifier(
        network,
        name=f"timm/{name}",
        weights="pretrained" if pretrained else None,
        mean=data["mean"],
        std=data["std"],
        output=output,
        preprocessing=_timm_preprocessing(name, data),
    )


def _timm_preprocessing(name: str, data: Mapping[str, Any]) -> Preprocessing:
    """Preprocessing by the data settings of a timm model."""
    _, height, width = data["input_size"]
    enlarged = int(height / data["crop_pct"]), int(width / data["crop_pct"])
    if data["crop_mode"] not in ("center", "squash"):
        raise ValueError(
            "Expected a timm model whose images are cropped from the centre or squashed. "
            f"Found {data['crop_mode']} for {name}."
        )
    return Preprocessing(
        resize_size=enlarged if data["crop_mode"] == "squash" else min(enlarged),
        crop_size=(height, width),
        interpolation=data["interpolation"],
    )


def custom_classifier(
    module: str,
    weights: str | Path,
    arguments: Mapping[str, Any] | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    output: Output = "softmax",
    resize_size: int | tuple[int, int] | None = None,
    crop_size: int | tuple[int, int] | None = None,
) -> FrozenClassifier:
    """Build the user's own classifier; what the import path names is executed.

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

    Raises:
        ValueError: If the import path, the arguments, the weights or a size do not fit.
    """
    for setting, size in (("resize_size", resize_size), ("crop_size", crop_size)):
        if size is not None and min(_pair(size)) < MINIMUM_SIZE:
            raise ValueError(
                f"Expected classifier.{setting} >= {MINIMUM_SIZE} pixels. Found {size}."
            )
    network = _build_network(module, arguments or {})
    try:
        network.load_state_dict(load_state_dict(Path(weights)))
    except RuntimeError as error:
        raise ValueError(
            f"Expected classifier.weights {weights} to fit {module}. {' '.join(str(error).split())}"
        ) from None
    return FrozenClassifier(
        network,
        name=module,
        weights=Path(weights).name,
        mean=mean,
        std=std,
        output=output,
        preprocessing=Preprocessing(
            resize_size=resize_size if isinstance(resize_size, int | None) else _pair(resize_size),
            crop_size=None if crop_size is None else _pair(crop_size),
        ),
    )


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
