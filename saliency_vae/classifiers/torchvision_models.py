"""Classifiers of torchvision, with the preprocessing and the classes of their weights."""

import torchvision
from torch import nn
from torchvision.models import WeightsEnum

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.data import Preprocessing
from saliency_vae.runtime.text import did_you_mean


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
            f"{did_you_mean(name, models.list_models(module=models))}"
        )
    if weights is None:
        return FrozenClassifier(models.get_model(name), name=f"torchvision/{name}", output=output)
    return wrap_torchvision(_named_weights(name, weights), output=output)


def wrap_torchvision(
    weights: WeightsEnum | str, network: nn.Module | None = None, *, output: Output = "softmax"
) -> FrozenClassifier:
    """Wrap a model of torchvision, see :meth:`FrozenClassifier.from_torchvision`."""
    if isinstance(weights, str):
        if weights in torchvision.models.list_models(module=torchvision.models):
            weights = _named_weights(weights, "DEFAULT")
        else:
            weights = _full_name(weights)
    name = _model_of(weights)
    transform = weights.transforms()
    return FrozenClassifier(
        _downloaded(name, weights) if network is None else network,
        name=f"torchvision/{name}",
        weights=weights.name,
        mean=transform.mean,
        std=transform.std,
        output=output,
        categories=weights.meta["categories"],
        preprocessing=Preprocessing(
            resize_size=transform.resize_size[0],
            crop_size=(transform.crop_size[0], transform.crop_size[0]),
            interpolation=transform.interpolation.value,
        ),
    )


def _downloaded(name: str, weights: WeightsEnum) -> nn.Module:
    try:
        network: nn.Module = torchvision.models.get_model(name, weights=weights)
    except OSError as error:
        raise ValueError(
            f"Expected classifier.weights={weights.name} of {name} in torch's cache or to "
            f"download. Found neither ({error}). Random weights: classifier.weights=null."
        ) from None
    return network


def _named_weights(name: str, weights: str) -> WeightsEnum:
    """Weights of a model by their name."""
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


def _full_name(weights: str) -> WeightsEnum:
    """Weights by their full name, such as ``ResNet50_Weights.IMAGENET1K_V2``."""
    try:
        chosen: WeightsEnum = torchvision.models.get_weight(weights)
    except ValueError:
        raise ValueError(
            "Expected a model of torchvision.models.list_models(), or weights such as "
            f"ResNet50_Weights.IMAGENET1K_V2. Found {weights!r}."
        ) from None
    return chosen


def _model_of(weights: WeightsEnum) -> str:
    """Name of the classification model that weights are for."""
    models = torchvision.models
    for name in models.list_models(module=models):
        if models.get_model_weights(name) is type(weights):
            return str(name)
    raise ValueError(f"Expected weights of a classification model. Found {weights!r}.")
