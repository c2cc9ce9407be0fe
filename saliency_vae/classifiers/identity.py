"""Identity of a classifier, which an explainer records for the classifier it explains."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from saliency_vae.classifiers.targets import Output

# Classifiers whose identities agree in these fields give the same predictions.
_DECISIVE = ("sha256", "mean", "std", "output")


@dataclass(frozen=True)
class ClassifierIdentity:
    """Distinguishes one classifier from another.

    Attributes:
        name: Name of the architecture.
        weights: Name of the weights.
        output: ``softmax`` or ``sigmoid``.
        mean: Value subtracted from each channel of images in [0, 1].
        std: Value that each channel is divided by after that.
        sha256: Hash of the parameters and buffers, see :func:`parameter_hash`.
        builder: Hydra node that rebuilds the classifier; None if unknown.
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
        """Names of the differing fields that affect the predictions."""
        return [name for name in _DECISIVE if getattr(self, name) != getattr(other, name)]

    def check(self, expected: "ClassifierIdentity") -> None:
        """Refuse this classifier if another one is expected.

        Raises:
            ValueError: If it does not predict like the expected one; the message names both.
        """
        differing = self.differences(expected)
        if differing:
            raise ValueError(
                f"Expected the classifier that this explainer explains, {expected}. "
                f"Found {self}, another {', '.join(differing)}. "
                "force=true (in Python force=True) explains with it all the same."
            )


def parameter_hash(network: nn.Module) -> str:
    """SHA-256 of the names, types, shapes and bytes of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        for part in _plain(value):
            if not isinstance(part, Tensor):
                digest.update(f"{name} {part}".encode())
                continue
            digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            flat = part.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def _plain(value: Any) -> Iterator[Any]:
    """Yield the plain tensors and values in a state-dict entry, which may be quantised."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from _plain(part)
    elif isinstance(value, Tensor) and value.is_quantized:
        yield value.int_repr()
        if value.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            yield value.q_scale(), value.q_zero_point()
        else:
            yield from (value.q_per_channel_scales(), value.q_per_channel_zero_points())
    else:
        yield value
