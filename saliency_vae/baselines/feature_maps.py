"""The feature maps that class activation maps are made of, kept while a classifier runs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.baselines.target_score import copy_to_modify
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.runtime.autograd import recording_gradients


class _Call(NamedTuple):
    """A call of a module that returned feature maps (B, C, h, w), more than one pixel each."""

    module: nn.Module
    maps: Tensor


def feature_maps(
    images: Tensor, classifier: FrozenClassifier, layer: str | None = None
) -> tuple[Tensor, Tensor]:
    """Classify images once and keep the feature maps of a layer.

    Args:
        images: Images (B, 3, H, W).
        classifier: Classifier; hooks are put on a copy of it.
        layer: Name of a module of its network, such as ``layer4``, of which the last call counts;
            None for the one that :func:`last_feature_layer` finds.

    Returns:
        Feature maps (B, C, h, w), and the logits (B, classes), whose gradient reaches them.

    Raises:
        ValueError: If the network has no such layer, or no feature maps.
    """
    network, calls, logits = _record(images, classifier)
    if layer is None:
        return _last(calls, classifier).maps, logits
    module = _submodule(network, layer)
    named = [call for call in calls if call.module is module]
    if not named:
        raise ValueError(f"Expected layer to return feature maps. Found none of {layer!r}.")
    return named[-1].maps, logits


@torch.no_grad()
def last_feature_layer(images: Tensor, classifier: FrozenClassifier) -> str:
    """Find the last convolution and what follows it at its resolution, up to the pooling.

    So the feature maps are those after normalisation, activation and the residual sum: VGG's last
    ReLU, ResNet's ``layer4``. Convolutions of 1x1 maps, after a global pooling, do not count.

    Args:
        images: Images (B, 3, H, W), of which the first one is classified.
        classifier: Classifier to search; hooks are put on a copy of it.

    Returns:
        Name of the module in the classifier's network.

    Raises:
        ValueError: If no convolution returns feature maps.
    """
    network, calls, _ = _record(images[:1], classifier)
    last = _last(calls, classifier).module
    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules()}
    return names[last]


def enlarged(maps: Tensor, images: Tensor) -> Tensor:
    """Enlarge maps (B, h, w) bilinearly to the size of images (B, 3, H, W): (B, H, W)."""
    return F.interpolate(maps[:, None], images.shape[-2:], mode="bilinear").squeeze(1)


def _record(images: Tensor, classifier: FrozenClassifier) -> tuple[nn.Module, list[_Call], Tensor]:
    """Classify images with a copy: its network, its calls in the order of their return, logits."""
    hooked = copy_to_modify(classifier)
    calls: list[_Call] = []

    def record(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-2:].numel() > 1:
            calls.append(_Call(module, output))

    for module in hooked.network.modules():
        module.register_forward_hook(record)
    with recording_gradients():
        logits = hooked(images.detach().clone().requires_grad_())
    return hooked.network, calls, logits


def _last(calls: list[_Call], classifier: FrozenClassifier) -> _Call:
    convolutions = [place for place, call in enumerate(calls) if isinstance(call.module, nn.Conv2d)]
    if not convolutions:
        raise ValueError(
            "Expected a classifier with feature maps of an nn.Conv2d for class activation maps, or "
            f"its layer by name. Found none in {classifier.name}."
        )
    last = calls[convolutions[-1] :]
    return [call for call in last if call.maps.shape[-2:] == last[0].maps.shape[-2:]][-1]


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, _ in network.named_children())
        raise ValueError(
            f"Expected layer to be a module of the classifier, such as one of {known}. "
            f"Found {name!r}."
        ) from None
