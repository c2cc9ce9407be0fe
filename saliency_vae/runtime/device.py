"""The device that a command computes on."""

import torch


def pick_device(name: str) -> torch.device:
    """Find a device by its name; ``auto`` takes an accelerator if there is one.

    Args:
        name: ``auto``, ``cpu``, or another name that torch knows, such as ``cuda:1``.

    Raises:
        ValueError: If there is no such device.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator or torch.device("cpu")
    try:
        probe = torch.zeros(1, device=name)
        probe.item()  # a meta tensor has no value
    except (RuntimeError, AssertionError) as error:
        why, *_ = str(error).splitlines()[0].split(". ")
        raise ValueError(
            f"Expected device auto, cpu, or one of this machine. Found {name} ({why})."
        ) from None
    return probe.device
