"""Run metadata: what a reader needs to know to repeat an evaluation."""

import platform
import shlex
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
_WEIGHTS = ("beta", "complement", "sharpness", "mean_penalty", "distance")


def describe_run(
    config: Mapping[str, Any],
    explainer: Explainer,
    classifier: FrozenClassifier,
    images: Images,
) -> dict[str, str]:
    """Describe how an evaluation is made, for its report.

    Args:
        config: Settings of the evaluation.
        explainer: Explainer to evaluate.
        classifier: Classifier to explain.
        images: Images to explain.
    """
    return {
        "classifier": classifier.name,
        "weights": str(classifier.identity()),
        "data": images.name,
        "explainer": str(config["explainer"]),
        "configuration": recipe(explainer.config),
        "protocol": protocol(config, len(images)),
        "seed": str(config["seed"]),
        "command": shlex.join(["python", "-m", "saliency_vae.evaluate", *sys.argv[1:]]),
        "date": datetime.now().astimezone().isoformat(" ", "minutes"),
        "versions": versions(),
        "hardware": hardware(images.device),
    }


def protocol(config: Mapping[str, Any], number: int) -> str:
    """Describe how an evaluation scores methods.

    Args:
        config: Settings of the evaluation.
        number: Number of images, which a check of more images takes all of.
    """
    runs = config["reference_runs"] + len(config["ensemble"])
    checked = {
        check: min(config[f"{check}_images"], number)
        for check in ("own_mask", "robustness", "reference", "posterior")
    }
    return (
        f"{config['steps']} steps of insertion and deletion; baseline images: "
        f"{', '.join(config['baseline_images'])}; pointing game within {config['tolerance']:g} "
        f"pixels; own mask on {checked['own_mask']} images; infidelity and max-sensitivity "
        f"on {checked['robustness']} images; uncertainty of pixels on "
        f"{checked['reference']} images with {runs} independent runs; posterior predictive "
        f"checks and swap test on {checked['posterior']} images; times in batches of at most "
        f"{config['batch_size']} images."
    )


def recipe(config: ExplainerConfig) -> str:
    """Describe the configuration of an explainer in one line."""
    given = {name: getattr(config, name) for name in (*_RECIPE, *_WEIGHTS)}
    parts = [
        *(as_call(given[name]) for name in _RECIPE if given[name] is not None),
        f"posterior {config.posterior}",
        *(f"{name} {given[name]}" for name in _WEIGHTS if given[name] is not None),
    ]
    return f"{config.name}: {'; '.join(parts)}"


def versions() -> str:
    """List the versions of the packages that the numbers depend on."""
    found = [f"saliency_vae {__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*found, *(f"{name} {_version(name)}" for name in _PACKAGES)])


def hardware(device: torch.device) -> str:
    """Name the device of the measurements."""
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
