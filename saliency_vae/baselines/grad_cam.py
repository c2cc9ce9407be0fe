"""Grad-CAM (Selvaraju et al. 2017)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.baselines.captum_method import attribute, captum_class
from saliency_vae.baselines.target_score import TargetScore, copy_to_modify
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class GradCAM:
    """Sum of feature maps weighed by their mean gradients; its positive part, enlarged bilinearly.

    Args:
        layer: Name of the module of the network that returns the feature maps, such as
            ``layer4``; None for the one that :func:`last_feature_layer` finds.

    Raises:
        ValueError: If Captum is not installed.
    """

    def __init__(self, layer: str | None = None) -> None:
        self.layer = layer
        self.attribution = captum_class("captum.attr.LayerGradCam")

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W).

        Raises:
            ValueError: If the network has no such layer.
        """
        images = batch["image"]
        layer = self.layer or last_feature_layer(images, classifier)

        def build(score: TargetScore) -> Any:
            return self.attribution(score, _submodule(score.classifier.network, layer))

        maps = attribute(build, batch, classifier, relu_attributions=True)
        return F.interpolate(maps, images.shape[-2:], mode="bilinear").squeeze(1)


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, _ in network.named_children())
        raise ValueError(
            f"Expected layer to be a module of the classifier, such as one of {known}. "
            f"Found {name!r}."
        ) from None


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
    hooked = copy_to_modify(classifier)
    calls: list[tuple[str, bool, torch.Size]] = []  # in the order in which they return

    def record(name: str, module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-2:].numel() > 1:
            calls.append((name, isinstance(module, nn.Conv2d), output.shape[-2:]))

    for name, module in hooked.network.named_modules():
        module.register_forward_hook(partial(record, name))
    hooked(images[:1])
    sizes = [size for _, is_convolution, size in calls if is_convolution]
    if not sizes:
        raise ValueError(
            "Expected a classifier with feature maps of an nn.Conv2d for Grad-CAM, or its layer "
            f"by name. Found none in {classifier.name}."
        )
    last = max(index for index, call in enumerate(calls) if call[1])
    return [name for name, _, size in calls[last:] if size == sizes[-1]][-1]
