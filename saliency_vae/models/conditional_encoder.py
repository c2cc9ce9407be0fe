"""Classifier-conditioned encoders: they read the image and the classifier's signals for it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from saliency_vae.classifiers import FrozenClassifier, Target
from saliency_vae.models.encoders import UNet, check_channels
from saliency_vae.models.signals import ClassifierSignals, extract_signals


class Signals(Protocol):
    """Classifier signals that an encoder reads.

    Attributes:
        logits: Logits of the whole image, (B, classes).
        target: Target class or labels, as weights of the logits (B, classes); None for the
            decision or a custom score.
    """

    @property
    def logits(self) -> Tensor: ...  # noqa: D102
    @property
    def target(self) -> Tensor | None: ...  # noqa: D102
    def zeroed(self) -> Self:
        """Return a copy with gradients and maps set to zero, as a control."""


class ConditionalEncoder(nn.Module, ABC):
    """Encoder that reads the image and the classifier's signals for it.

    Attributes:
        answers_targets: Whether it can explain any target class; otherwise only the decision.
    """

    answers_targets = False

    @abstractmethod
    def signals(
        self, images: Tensor, classifier: FrozenClassifier, target: Target | None = None
    ) -> Any:
        """Extract the :class:`Signals` of a classifier for images (B, 3, H, W) in [0, 1]."""

    def prior_mean(self, signals: Any) -> Tensor | None:
        """Prior mean of the maps given the signals, (B, H, W); None for zero."""
        return None


class ConditionalUNet(ConditionalEncoder):
    """U-Net that reads the image and the :class:`ClassifierSignals` for it.

    The gradients are concatenated to the image, each feature map to the scale of its resolution.
    The prior mean is proportional to the gradients. So where moving the posterior mean away from it
    gains nothing, pixels keep the order that the gradients give them.

    Args:
        channels: Channels at each scale, finest first; each scale halves the resolution.
        levels: Blending levels of image and blur at which gradients are taken, in (0, 1], rising to
            1, the image itself.
        features: Channels and stride of the classifier's feature maps, by module name; found when
            training starts.
        prior_mean_scale: Scale of the prior mean, >= 0: the prior mean is this many times the mean
            gradient over the levels, in standard deviations of the prior; 0 for the paper's zero
            prior mean.

    Raises:
        ValueError: If there is no scale, a channel count is not positive, the levels do not rise
            to 1 or prior_mean_scale is negative.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128),
        levels: Sequence[float] = (0.5, 1.0),
        features: Mapping[str, Mapping[str, int]] | None = None,
        prior_mean_scale: float = 0.0,
    ) -> None:
        super().__init__()
        check_channels(channels, "encoder.channels")
        check_levels(levels)
        if not prior_mean_scale >= 0:
            raise ValueError(f"Expected encoder.prior_mean_scale >= 0. Found {prior_mean_scale}.")
        self.levels = list(levels)
        self.prior_mean_scale = prior_mean_scale
        features = features or {}
        coarsest = len(channels) - 1
        self.scales = {
            name: min(round(math.log2(found["stride"])), coarsest)
            for name, found in features.items()
        }
        joined = [len(levels)] + [0] * coarsest
        self.lateral = nn.ModuleList()
        for name, scale in self.scales.items():
            width = channels[scale]
            inputs = features[name]["channels"]
            self.lateral.append(Conv2dNormActivation(inputs, width, kernel_size=1))
            joined[scale] += width
        self.unet = UNet(channels, joined)

    def signals(
        self, images: Tensor, classifier: FrozenClassifier, target: Target | None = None
    ) -> ClassifierSignals:
        """Extract gradients and feature maps for the decision, see :func:`extract_signals`."""
        found: ClassifierSignals = extract_signals(images, classifier, self.levels, self.scales)
        return found

    def prior_mean(self, signals: ClassifierSignals) -> Tensor:
        """Prior mean of the maps given the signals, (B, H, W)."""
        return self.prior_mean_scale * signals.gradients.mean(1)

    def forward(self, images: Tensor, signals: ClassifierSignals) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] to mean and log-variance (B, 2, H, W).

        The network predicts the posterior mean as an offset from the prior mean.
        """
        joined: list[list[Tensor]] = [[] for _ in self.unet.down]
        joined[0].append(signals.gradients.to(images.dtype))
        for (name, scale), lateral in zip(self.scales.items(), self.lateral, strict=True):
            joined[scale].append(lateral(signals.features[name].to(images.dtype)))
        offset, log_variance = self.unet(images, joined).float().unbind(1)
        return torch.stack((self.prior_mean(signals) + offset, log_variance), 1)


def check_levels(levels: Sequence[float]) -> None:
    """Raise ValueError if the levels do not rise to 1."""
    rising = all(below < level for below, level in pairwise((0.0, *levels)))
    if not levels or levels[-1] != 1 or not rising:
        raise ValueError(f"Expected encoder.levels in (0, 1], rising to 1. Found {levels}.")
