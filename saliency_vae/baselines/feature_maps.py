"""Record the feature maps that class activation maps are computed from."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.baselines.copies import shared_copy
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.models.feature_taps import Features, as_features
from saliency_vae.runtime.autograd import recording_gradients


def feature_maps(
    images: Tensor, target: Tensor, classifier: FrozenClassifier, layer: str | None = None
) -> tuple[Tensor, Tensor]:
    """Classify images once, and return a layer's feature maps and their gradient.

    Without a given layer, these are the last maps at the resolution of the last convolution: after
    its normalisation, activation and residual sum, before the pooling. Examples are VGG's last ReLU
    and ResNet's ``layer4``. Convolutions of 1x1 maps, after a global pooling, do not count. If
    tokens or channels-last maps follow, the output of the last normalisation whose patches have a
    gradient is used: Swin's ``norm``, or the first normalisation of the last block,
    ``blocks.11.norm1``, of a vision transformer whose head sees only the class token.

    Args:
        images: Images (B, 3, H, W).
        target: Target, weights of the logits, (B, classes).
        classifier: Classifier; hooks are put on a copy of it.
        layer: Name of a module of its network, such as ``layer4``. Its last call counts; patch
            tokens are reshaped to maps.

    Returns:
        Feature maps and the gradient of the target's logit, both (B, C, h, w) float32.

    Raises:
        ValueError: If the network has no such layer, or no feature maps.
    """
    hooked = shared_copy(classifier)
    chosen = None if layer is None else _submodule(hooked.network, layer)
    found: list[Features] = []

    def keep(module: nn.Module, _: Any, output: Any) -> Any:
        if not (isinstance(output, Tensor) and output.requires_grad):
            return None
        if chosen is None:
            return _add(found, module, output, images)
        if features := as_features(output, _size(images)) or _as_map(output):
            found.append(features)
        return output.clone()  # a later module may alter the clone in place

    for module in hooked.network.modules() if chosen is None else [chosen]:
        module.register_forward_hook(keep)
    with recording_gradients():
        logits = hooked(images.detach().clone().requires_grad_())
        if found:
            return _last_that_counts(found, logits, target)
    raise ValueError(
        "Expected a classifier with feature maps of an nn.Conv2d for class activation maps, or "
        f"its layer by name. Found none in {classifier.name}."
        if layer is None
        else f"Expected layer to return feature maps. Found none of {layer!r}."
    )


def enlarged(maps: Tensor, images: Tensor) -> Tensor:
    """Enlarge maps (B, h, w) bilinearly to the size of images (B, 3, H, W): (B, H, W)."""
    return F.interpolate(maps[:, None], images.shape[-2:], mode="bilinear").squeeze(1)


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _as_map(output: Tensor) -> Features | None:
    """The output if it is feature maps (B, C, h, w) of more than one pixel, else None."""
    if output.ndim == 4 and output.shape[-2:].numel() > 1:
        return Features(output, (output.shape[-2], output.shape[-1]))
    return None


def _add(found: list[Features], module: nn.Module, output: Tensor, images: Tensor) -> None:
    """Record a candidate: maps at the last convolution's resolution, or normalised tokens."""
    features = _as_map(output)
    if features is not None and isinstance(module, nn.Conv2d):
        found[:] = [features]
    elif features is not None and found and features.grid == found[0].grid:
        found.append(features)
    elif "norm" in type(module).__name__.lower():
        features = as_features(output, _size(images), [one.grid for one in found])
        if features is not None and _is_of_tokens(features) and len(output) == len(images):
            found.append(features)


def _is_of_tokens(features: Features) -> bool:
    return features.extra_tokens is not None or features.channels_last


def _last_that_counts(
    found: list[Features], logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Last feature maps and their gradient, skipping tokens whose gradient is zero."""
    for features in reversed(found):
        (gradients,) = torch.autograd.grad(
            logits, features.output, target, retain_graph=True, materialize_grads=True
        )
        gradients = features.as_map(gradients)
        if not _is_of_tokens(features) or gradients.any():
            break
    return features.as_map(features.output.detach()).float(), gradients.float()


def _submodule(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        known = ", ".join(child for child, _ in network.named_children())
        raise ValueError(
            f"Expected layer to be a module of the classifier, such as one of {known}. "
            f"Found {name!r}."
        ) from None
