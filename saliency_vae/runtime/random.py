"""Seeding torch's own generators for one device, for good or within a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(number: int, device: torch.device) -> Iterator[None]:
    """Seed within the block, and restore the generators of the CPU and of CUDA afterwards.

    The generator of MPS is not restored; those of other devices, such as XPU, are not seeded.

    Args:
        number: Seed.
        device: Device to seed besides the CPU.

    Example:
        >>> with seeded(0, torch.device("cpu")):
        ...     drawn = torch.rand(1)
        >>> drawn
        tensor([0.4963])
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed(number, device)
        yield


def seed(number: int, device: torch.device) -> None:
    """Seed the CPU and one device; ``torch.manual_seed`` seeds every other GPU too.

    Args:
        number: Seed.
        device: Device to seed besides the CPU.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)
