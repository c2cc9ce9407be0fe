"""Classifier networks that are broken, and one that breaks at one image."""

import torch
from torch import Tensor, nn

from tests.conftest import blob_classifier


class BreaksAt(nn.Module):
    """The classifier of the blobs, but not for one image.

    Args:
        image: (3, H, W), in [0, 1].
        kind: ``loss`` or ``gradient``: what is not finite there.
    """

    marked: Tensor

    def __init__(self, image: Tensor, kind: str) -> None:
        super().__init__()
        self.network = blob_classifier().network
        self.register_buffer("marked", image.mean())
        self.kind = kind
        self.here = torch.tensor(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        brightness = images.mean((1, 2, 3))
        if not images.requires_grad:  # the image itself; its perturbed view comes next
            self.here = (brightness - self.marked).abs() < 1e-6
            if self.kind == "loss":
                logits = logits.masked_fill(self.here[:, None], torch.nan)
        elif self.kind == "gradient" and self.here.any():
            zero = (0 * brightness).sqrt()  # whose gradient is 0 x infinity
            logits = logits + torch.where(self.here, zero, 0)[:, None]
        return logits


class Flat(nn.Module):
    """The same for all images."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.mean((1, 2, 3))[:, None] + torch.arange(4.0)


class NotFinite(nn.Module):
    """NaN for every image."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * torch.nan


class NoBatch(nn.Module):
    """One prediction for the whole batch."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((0, 2, 3))


class Maps(nn.Module):
    """A map for each class, not pooled."""

    def forward(self, images: Tensor) -> Tensor:
        return images


class OneClass(nn.Module):
    """One logit, which softmax makes certain."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None]


class Several(nn.Module):
    """More than logits."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": images.mean((2, 3))}


class Probabilities(nn.Module):
    """Softmax within."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)).softmax(1)


class OneSize(nn.Module):
    """Takes images of one size."""

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 24, "Wrong image width"
        return images.mean((2, 3))


class NoGradient(nn.Module):
    """Made for inference only."""

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))
