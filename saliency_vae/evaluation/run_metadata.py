"""How an evaluation was made: everything that a reader needs to repeat it."""

import platform
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from saliency_vae import __version__
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.evaluation.images import Images
from saliency_vae.models import Explainer, ExplainerConfig, as_call

_PACKAGES = ("torch", "torchvision", "captum")
_RECIPE = ("encoder", "prior", "topk", "perturbation")
_WEIGHTS = ("beta", "complement", "sharpness", "mean_penalty")


def about(
    config: Mapping[str, Any],
    explainer: Explainer,
    classifier: FrozenClassifier,
    images: Images,
) -> dict[str, str]:
    """Say how an evaluation is made, as its report shows it.

    Args:
        config: Of the evaluation.
        explainer: Ours.
        classifier: That is explained.
        images: That it is explained on.
    """
    return {
        "classifier": classifier.name,
        "weights": str(classifier.identity()),
        "data": images.name,
        "explainer": str(config["explainer"]),
        "ours": recipe(explainer.config),
        "protocol": protocol(config),
        "seed": str(config["seed"]),
        "command": " ".join(["python -m saliency_vae.evaluate", *sys.argv[1:]]),
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        "versions": versions(),
        "hardware": hardware(images.device),
    }


def protocol(config: Mapping[str, Any]) -> str:
    """Say how an evaluation scores methods."""
    return (
        f"{config['steps']} steps of insertion and deletion; information removed by "
        f"{', '.join(config['removal'])}; pointing game within {config['tolerance']:g} pixels; own "
        f"mask on {config['own_mask_images']} images, infidelity and max-sensitivity on "
        f"{config['robustness_images']}; uncertainty of pixels on {config['reference_images']} "
        f"images against {config['reference_runs'] + len(config['ensemble'])} independent runs; "
        f"times in batches of {config['batch_size']}."
    )


def recipe(config: ExplainerConfig) -> str:
    """Say in one line how an explainer was configured.

    Args:
        config: Of the explainer.
    """
    given = {name: getattr(config, name) for name in (*_RECIPE, *_WEIGHTS)}
    parts = [
        *(as_call(given[name]) for name in _RECIPE if given[name] is not None),
        f"posterior {config.posterior}",
        *(f"{name} {given[name]}" for name in _WEIGHTS if given[name] is not None),
    ]
    return f"{config.name}: {'; '.join(parts)}"


def versions() -> str:
    """Versions of what the numbers depend on."""
    found = [f"saliency_vae {__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*found, *(f"{name} {_version(name)}" for name in _PACKAGES)])


def hardware(device: torch.device) -> str:
    """Name the device that was measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{_processor()}, threads of torch: {torch.get_num_threads()}"
    return str(device)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
