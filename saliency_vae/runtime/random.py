"""Random numbers of torch's own generators, of one device, drawn from a seed for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(number: int, device: torch.device) -> Iterator[None]:
    """Draw from a seed, and leave the random numbers of the CPU and of CUDA as they were.

    Those of MPS go on from the seed; those of other devices, such as XPU, are not seeded.

    Args:
        number: Seed.
        device: Device that is drawn on, beside the CPU.

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
        device: Device to seed beside the CPU.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index].manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)
