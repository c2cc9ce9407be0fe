"""The universal encoder: it reads the image and the signals of any classifier for any class."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

from saliency_vae.classifiers import FrozenClassifier, Target
from saliency_vae.models.conditional_encoder import ConditionalEncoder, check_levels
from saliency_vae.models.edge_aware import edge_aware, enlarged
from saliency_vae.models.encoders import UNet, check_channels
from saliency_vae.models.ensemble import Ensemble
from saliency_vae.models.feature_taps import STRIDES
from saliency_vae.models.universal_signals import (
    KINDS,
    NOISE,
    UniversalSignals,
    extract_universal_signals,
)
from saliency_vae.runtime.autograd import recording_gradients


class UniversalUNet(ConditionalEncoder):
    """U-Net over the image and the :class:`UniversalSignals` for it.

    No layer depends on the classifier's channels or classes. Scale i of the U-Net, of stride 2^i,
    reads the signals of that stride, or zeros if the classifier lacks it.

    Args:
        channels: Channels at each scale, finest first; each scale halves the resolution.
        levels: Mask values at which signals are taken, in (0, 1], rising to 1, the image itself.
        copies: Copies of the image that signals are averaged over, all but the first noisy. In
            training, every other step uses one, see ``one_copy``.
        output_stride: Stride in pixels of the grid on which maps are made; they are upsampled to
            the image's size.
        members: Number of networks that read the same signals; their posteriors are averaged.
        edge_aware: Weight of the edge-aware smoothed mean in the mean, in [0, 1].

    Attributes:
        one_copy: Whether training uses a single copy; set in each step.

    Raises:
        ValueError: If there are more than six scales, a channel count is not positive, copies,
            output_stride or members are less than one, the levels do not rise to 1 or edge_aware is
            not in [0, 1].
    """

    answers_targets = True

    def __init__(
        self,
        channels: Sequence[int] = (16, 24, 32, 48, 64, 64),
        levels: Sequence[float] = (0.5, 1.0),
        copies: int = 4,
        output_stride: int = 1,
        members: int = 1,
        edge_aware: float = 0.0,
    ) -> None:
        super().__init__()
        check_channels(channels, "encoder.channels")
        if len(channels) > 1 + len(STRIDES):
            raise ValueError(
                f"Expected encoder.channels of at most {1 + len(STRIDES)} scales, the finest and "
                f"one for each stride of the signals. Found {list(channels)}."
            )
        check_levels(levels)
        counts = {"copies": copies, "output_stride": output_stride, "members": members}
        for name, found in counts.items():
            if found < 1:
                raise ValueError(f"Expected encoder.{name} >= 1. Found {found}.")
        if not 0 <= edge_aware <= 1:
            raise ValueError(f"Expected encoder.edge_aware in [0, 1]. Found {edge_aware}.")
        self.levels = list(levels)
        self.edge_aware = edge_aware
        self.copies = copies
        self.one_copy = False
        self.output_stride = output_stride
        self.signal_channels = 2 * KINDS * len(levels)
        self.strides = STRIDES[: len(channels) - 1]
        joined = [2 * len(levels), *[self.signal_channels] * (len(channels) - 1)]
        networks = [UNet(channels, joined) for _ in range(members)]
        self.unet: UNet | Ensemble = networks[0] if members == 1 else Ensemble(networks)

    def signals(
        self, images: Tensor, classifier: FrozenClassifier, target: Target | None = None
    ) -> UniversalSignals:
        """Extract the signals of any classifier for any target, averaged over the copies."""
        found: UniversalSignals = extract_universal_signals(
            images, classifier, target=target, levels=self.levels, noise=self._noise(images)
        )
        return found

    def _noise(self, images: Tensor) -> Tensor:
        """Noise of all copies but the first, (copies - 1, 1 or B, 3, H, W).

        Fresh for each image in training. Otherwise the same for every image, so that an explanation
        does not depend on its batch.
        """
        if self.training:
            copies = 1 if self.one_copy else self.copies
            return NOISE * torch.randn(copies - 1, *images.shape, device=images.device)
        return _fixed_noise(images.device, images.dtype, self.copies - 1, 1, *images.shape[1:])

    def forward(self, images: Tensor, signals: UniversalSignals) -> Tensor:
        """Encode images (B, 3, H, W) in [0, 1] to mean and log-variance (B, 2, H, W)."""
        encoded: Tensor = self.unet(images, self._joined(images, signals))
        return self._as_maps(encoded.float(), images)

    def of_members(self, images: Tensor, signals: UniversalSignals) -> Tensor:
        """Encode images by each member separately, (members, B, 2, H, W)."""
        joined = self._joined(images, signals)
        networks = self.unet if isinstance(self.unet, Ensemble) else [self.unet]
        return torch.stack([self._as_maps(net(images, joined).float(), images) for net in networks])

    def _joined(self, images: Tensor, signals: UniversalSignals) -> list[list[Tensor]]:
        """Signals to concatenate at each scale; zeros for a stride that the classifier lacks."""
        joined: list[list[Tensor]] = [[signals.gradients.to(images.dtype)]]
        for stride in self.strides:
            found = signals.maps.get(stride)
            if found is None:
                found = images.new_zeros(images.shape[0], self.signal_channels, 2, 2)
            joined.append([found.to(images.dtype)])
        return joined

    def _as_maps(self, encoded: Tensor, images: Tensor) -> Tensor:
        """Apply the output stride and the edge-aware smoothing to an encoding (B, 2, H, W)."""
        if self.output_stride > 1:
            coarse = F.avg_pool2d(encoded, self.output_stride, ceil_mode=True)
            encoded = enlarged(coarse, self.output_stride, images.shape[-2:])
        if not self.edge_aware:
            return encoded
        mean, log_variance = encoded.unbind(1)
        mean = torch.lerp(mean, edge_aware(mean, images.float()), self.edge_aware)
        return torch.stack([mean, log_variance], dim=1)


@lru_cache(maxsize=8)  # a constant of an exported graph, which has no random numbers
def _fixed_noise(device: torch.device, dtype: torch.dtype, *shape: int) -> Tensor:
    """Noise that depends only on its shape, drawn on the CPU for every device.

    It is a real tensor even if the first caller is being traced or uses fake tensors.
    """
    with _disable_current_modes(), recording_gradients():
        noise = NOISE * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return noise.to(device, dtype)
