"""The device that a command computes on, and the number of loader processes."""

import os

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


def loader_processes(wanted: int) -> int:
    """Number of processes that read images: the configured number, but at most one per core.

    More are slower, and torch warns about them. What is read does not depend on their number.

    Args:
        wanted: Configured number of processes, >= 0.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(wanted, cores)
