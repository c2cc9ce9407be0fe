"""Weights of a network, read from a file without executing anything."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

_PARALLEL = "module."  # prefix that DataParallel adds to each name
_KEYS = ("state_dict", "model_state_dict", "model")  # of the state dict in a checkpoint


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: A ``.safetensors`` file, or a PyTorch file with the tensors at its top level or
            under one of ``state_dict``, ``model_state_dict`` and ``model``.

    Raises:
        ValueError: If the file is missing or unreadable, or holds no state dict.
    """
    if not path.is_file():
        raise ValueError(f"Expected classifier.weights to be a file. Not found: {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"Expected classifier.weights {path} to be a safetensors file or a PyTorch state "
            f"dict. Found neither ({type(error).__name__}): "
            "torch.save(network.state_dict(), PATH) writes one."
        ) from None
    state = loaded
    if isinstance(loaded, dict):
        state = next((loaded[key] for key in _KEYS if isinstance(loaded.get(key), dict)), loaded)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        keys = f" of {', '.join(map(repr, list(loaded)[:5]))}" if isinstance(loaded, dict) else ""
        raise ValueError(
            f"Expected classifier.weights {path} to hold a state dict, tensors by name. "
            f"Found {type(loaded).__name__}{keys}."
        )
    return state


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a network's weights from a file, including a file of a DataParallel model.

    Raises:
        ValueError: If the file is missing or unreadable, or holds no state dict.
        RuntimeError: If names or shapes differ.
    """
    state = load_state_dict(path)
    if not any(name.startswith(_PARALLEL) for name in network.state_dict()):
        consume_prefix_in_state_dict_if_present(state, _PARALLEL)
    network.load_state_dict(state)
