"""Which classifier it is: what an explainer records of the classifier that it explains."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from saliency_vae.classifiers.divergences import Output

# Two classifiers whose identities agree in these predict the same.
DECISIVE = ("sha256", "mean", "std", "output")


@dataclass(frozen=True)
class ClassifierIdentity:
    """Identity of a classifier.

    Attributes:
        name: Says which architecture.
        weights: Says which weights.
        output: ``softmax`` or ``sigmoid``.
        mean: Subtracted from each channel.
        std: Divides each channel.
        sha256: Of its parameters and buffers, see :func:`parameter_hash`.
        builder: Settings that build the classifier again, as a Hydra node; None if unknown.
    """

    name: str
    weights: str | None
    output: Output
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    builder: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.weights}, SHA-256 {self.sha256[:12]})"

    def differences(self, other: "ClassifierIdentity") -> list[str]:
        """Name what differs between the two and decides what is predicted."""
        return [name for name in DECISIVE if getattr(self, name) != getattr(other, name)]

    def check(self, expected: "ClassifierIdentity") -> None:
        """Refuse this classifier where another one is expected.

        Raises:
            ValueError: If it does not predict as the expected one does; names both.
        """
        differing = self.differences(expected)
        if differing:
            raise ValueError(
                f"Expected the classifier that this explainer explains, {expected}. "
                f"Found {self}, another {', '.join(differing)}. "
                "force=true (in Python force=True) explains with it all the same."
            )


def parameter_hash(network: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    return digest.hexdigest()
