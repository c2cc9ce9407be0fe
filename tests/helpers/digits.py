"""A built-in classifier that nobody has trained, for tests of anything but its training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from saliency_vae.classifiers.digit_networks import Architecture, digit_network
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.data.digit_images import ClutteredDigits


def write_digits(
    path: Path,
    image_size: int = 32,
    *,
    seed: int = 0,
    architecture: Architecture = "convolutional",
) -> Path:
    """Write what ``cluttered_digits_classifier`` would train on 64 images in one epoch.

    Its last layer decides on digits, each class on some of them.
    """
    settings: dict[str, Any] = {"image_size": image_size, "train_size": 64, "epochs": 1}
    settings["seed"] = seed
    if architecture != "convolutional":
        settings["architecture"] = architecture
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = digit_network(architecture).eval()
    _sharpen(network, image_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path, {"settings": json.dumps(settings)})
    return path


def recorded_digits(path: Path, *, seed: int = 0) -> ClassifierIdentity:
    """Write the file, and return what an explainer of this classifier records of it."""
    settings: dict[str, Any] = {"path": str(write_digits(path, seed=seed)), "image_size": 32}
    settings |= {"train_size": 64, "epochs": 1, "seed": seed}
    target = "saliency_vae.classifiers.digits.cluttered_digits_classifier"
    identity = cluttered_digits_classifier(**settings).identity()
    return replace(identity, builder={"_target_": target, **settings})


def _sharpen(network: nn.Module, image_size: int) -> None:
    data = ClutteredDigits("test", 24, image_size=image_size)
    images = torch.stack([data[index]["image"] for index in range(24)]).float() / 255
    head = list(network.modules())[-1]
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        logits = network(images)
        scale = 4 / logits.std(0)
        head.weight *= scale[:, None]
        head.bias.copy_(scale * (head.bias - logits.mean(0)))
