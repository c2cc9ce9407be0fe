"""The built-in classifiers: small networks, trained on cluttered digits when first needed."""

import json
from pathlib import Path
from typing import get_args

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from saliency_vae.classifiers.digit_networks import Architecture, digit_network
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.data import Preprocessing
from saliency_vae.data.digit_images import NUM_CLASSES, ClutteredDigits
from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.runtime.text import described

_BATCH_SIZE = 64
_USE_ANOTHER_PATH = "Name another place with classifier.path=FILE."


def cluttered_digits_classifier(
    path: str | Path,
    image_size: int = 48,
    train_size: int = 16_000,
    epochs: int = 5,
    seed: int = 0,
    architecture: Architecture = "convolutional",
) -> FrozenClassifier:
    """Load the classifier of cluttered digits, or train it if its file does not exist yet.

    Args:
        path: File of its weights, ``.safetensors``.
        image_size: Height and width of its images in pixels.
        train_size: Number of training images.
        epochs: Number of passes over the training images.
        seed: Seed of the images, their order in training, and the initial weights.
        architecture: Network: ``convolutional``, with batch norm, or ``residual``, with group norm.

    Raises:
        ValueError: If a setting is out of range or unknown, or the file was not written by this
            function with these settings.
    """
    settings = _checked(image_size, train_size, epochs, seed, architecture)
    suffix = f"_{architecture}" if architecture != "convolutional" else ""
    path = Path(path)
    with torch.random.fork_rng(devices=[]):  # the caller's random state is restored
        torch.default_generator.manual_seed(seed)
        network = digit_network(architecture)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # one process trains while the others wait
                if not path.exists():
                    _train_new(network, path, settings)
    _check_settings(path, settings)
    network.load_state_dict(load_file(path))
    return FrozenClassifier(
        network,
        name="cluttered_digits" + suffix,
        weights=path.name,
        preprocessing=Preprocessing(image_size, (image_size, image_size)),
        categories=[str(digit) for digit in range(NUM_CLASSES)],
    )


def _checked(
    image_size: int, train_size: int, epochs: int, seed: int, architecture: Architecture
) -> dict[str, int | str]:
    """Check that the settings are in range, and return them as the file records them."""
    least = {"image_size": 16, "train_size": _BATCH_SIZE, "epochs": 1}
    for name, found in (("image_size", image_size), ("train_size", train_size), ("epochs", epochs)):
        if found < least[name]:
            raise ValueError(f"Expected classifier.{name} >= {least[name]}. Found {found}.")
    if architecture not in get_args(Architecture):
        raise ValueError(
            f"Expected classifier.architecture among {', '.join(get_args(Architecture))}. "
            f"Found {architecture!r}."
        )
    settings: dict[str, int | str] = {
        "image_size": image_size,
        "train_size": train_size,
        "epochs": epochs,
        "seed": seed,
    }
    if architecture != "convolutional":  # files before version 0.2.0 hold no architecture
        settings["architecture"] = architecture
    return settings


def _train_new(network: nn.Module, path: Path, settings: dict[str, int | str]) -> None:
    """Train a network with the given settings, and write both to a file."""
    size, seed = int(settings["image_size"]), int(settings["seed"])
    number, epochs = int(settings["train_size"]), int(settings["epochs"])
    print(f"Training the built-in classifier once, to be kept in {path}", flush=True)
    data = ClutteredDigits("train", number, seed=seed, image_size=size, progress=True)
    _train(network, data, epochs)
    test = ClutteredDigits("test", 1000, seed=seed, image_size=size)
    print(f"Classifier: test accuracy {accuracy(network, test):.1%}, kept in {path}")
    write_whole(path, to_bytes(network.state_dict(), {"settings": json.dumps(settings)}))


def _check_settings(path: Path, settings: dict[str, int | str]) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {})["settings"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"Expected the file at {path} to be a safetensors file of this built-in classifier. "
            f"Found another ({described(error)}). {_USE_ANOTHER_PATH}"
        ) from None
    if found != settings:
        raise ValueError(
            f"Expected the classifier at {path} to be trained with {settings}. Found {found}. "
            f"{_USE_ANOTHER_PATH}"
        )


def _train(network: nn.Module, data: ClutteredDigits, epochs: int) -> None:
    network.train().to(memory_format=torch.channels_last)
    loader = DataLoader(data, batch_size=_BATCH_SIZE, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=6e-3, total_steps=epochs * len(loader)
    )
    steps = epochs * len(loader)
    with tqdm(total=steps, desc="Training the classifier", unit="step", disable=None) as bar:
        for epoch in range(epochs):
            if bar.disable:  # there is no terminal
                print(f"Training the classifier: epoch {epoch + 1} of {epochs}", flush=True)
            for batch in loader:
                images = batch["image"].float().div(255)
                images = images.contiguous(memory_format=torch.channels_last)
                # With so few writers, smoothing, dropout and decay help on those that are unseen.
                loss = F.cross_entropy(network(images), batch["label"], label_smoothing=0.05)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                bar.update()
    network.eval().to(memory_format=torch.contiguous_format)


@torch.inference_mode()
def accuracy(network: nn.Module, data: ClutteredDigits) -> float:
    """Top-1 accuracy, on labelled digits, of a network that takes images in [0, 1]."""
    correct = torch.tensor(0)
    for batch in DataLoader(data, batch_size=250):
        predicted: Tensor = network(batch["image"].float() / 255).argmax(-1)
        correct += (predicted == batch["label"]).sum()
    return int(correct) / len(data)
