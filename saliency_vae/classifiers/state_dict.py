"""Weights of a network, read from a file without executing anything."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: A ``.safetensors`` file, or a PyTorch file of tensors, plain or under ``state_dict``.

    Raises:
        ValueError: If the file is missing or unreadable.
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
            f"dict. Found neither ({type(error).__name__})."
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"Expected classifier.weights {path} to hold a state dict, tensors by name. "
            f"Found {type(loaded).__name__}."
        )
    return state
