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

_PACKAGES = ("torch", "torchvision", "captum")
_RECIPE = ("encoder", "prior", "topk", "perturbation")


def recipe(config: Mapping[str, Any]) -> str:
    """Say in one line how an explainer was configured.

    Args:
        config: Of the explainer, as its ``config.json`` holds it.
    """
    parts = [
        *(_call(config[name]) for name in _RECIPE if name in config),
        f"posterior {config['posterior']}",
        *(f"{name} {config[name]}" for name in ("beta",) if name in config),
    ]
    return f"{config.get('name', 'unnamed')}: {'; '.join(parts)}"


def versions() -> str:
    """Versions of what the numbers depend on."""
    found = [f"saliency_vae {__version__}", f"Python {platform.python_version()}"]
    return ", ".join([*found, *(f"{name} {_version(name)}" for name in _PACKAGES)])


def hardware(device: torch.device) -> str:
    """Name the device that was measured on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{_processor()}, {torch.get_num_threads()} threads of torch"
    return str(device)


def command_line(module: str) -> str:
    """The command that this process was started with."""
    return " ".join([f"python -m saliency_vae.{module}", *sys.argv[1:]])


def now() -> str:
    """Date and time, to the minute."""
    return datetime.now().astimezone().isoformat(" ", "minutes")


def _call(node: Any) -> str:
    """Write a Hydra node as a call: ``Blur(sigma=8.0)``."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        return str(node)
    settings = (f"{key}={_call(value)}" for key, value in node.items() if not key.startswith("_"))
    return f"{node['_target_'].rpartition('.')[2]}({', '.join(settings)})"


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
