"""Networks from an image to the mean and log-variance of its saliency map.

Every encoder maps images (B, 3, H, W) in [0, 1], any H, W >= 16, to (B, 2, H, W): channel 0 is
the mean mu, channel 1 is eta = log nu.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.ops import Conv2dNormActivation

from saliency_vae.data import MINIMUM_SIZE

_PAPER_CHANNELS = (64,) * 4 + (32,) * 5 + (16,) * 6 + (2,)


def _head(inputs: int) -> nn.Conv2d:
    """Plain 3x3 convolution to mean and log-variance, initialised to zero.

    Every map then starts as pure noise, and the first gradients, not the initial weights, decide
    what is salient. A map that starts inverted would stay so, because at a low temperature the
    gradient reaches only the pixels near the threshold.
    """
    head = nn.Conv2d(inputs, 2, 3, padding=1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)  # type: ignore[arg-type]  # there is one by default
    return head


def fold_batch_norm(encoder: nn.Module) -> nn.Module:
    """Copy a network with each batch norm merged into the convolution before it.

    The copy computes the outputs of eval mode, and cannot be trained like the original.
    """
    folded = copy.deepcopy(encoder)
    folded.eval()  # not chained: an overridden train() may return nothing
    for block in folded.modules():
        if isinstance(block, nn.Sequential):
            for index, (conv, norm) in enumerate(pairwise(list(block))):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
                    block[index] = fuse_conv_bn_eval(conv, norm)
                    block[index + 1] = nn.Identity()
    return folded


def check_channels(channels: Sequence[int], name: str) -> None:
    """Raise ValueError, naming the setting, if a channel count is missing or not positive."""
    if not channels or min(channels) < 1:
        raise ValueError(f"Expected {name} to be positive whole numbers. Found {list(channels)}.")


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[-2:]) < MINIMUM_SIZE:
        raise ValueError(
            f"Expected images (B, 3, H, W) with H, W >= {MINIMUM_SIZE}. "
            f"Found {tuple(images.shape)}."
        )


class PaperEncoder(nn.Module):
    """The paper's encoder: convolutions at full resolution, then a plain 2-channel layer.

    Appendix C counts 17 layers but lists 16, each followed by ReLU, which would force mu >= 0. Here
    the 16 listed blocks are followed by a 17th layer without activation.

    Args:
        hidden_channels: Output channels of each block.

    Raises:
        ValueError: If there is no block or a channel count is not positive.
    """

    def __init__(self, hidden_channels: Sequence[int] = _PAPER_CHANNELS) -> None:
        super().__init__()
        check_channels(hidden_channels, "encoder.hidden_channels")
        widths = (3, *hidden_channels)
        self.blocks = nn.Sequential(*(Conv2dNormActivation(a, b) for a, b in pairwise(widths)))
        self.head = _head(widths[-1])

    def forward(self, images: Tensor) -> Tensor:
        """Encode images (B, 3, H, W) to mean and log-variance (B, 2, H, W)."""
        _check_images(images)
        output: Tensor = self.head(self.blocks(images))
        return output


class UNet(nn.Module):
    """U-Net: coarse scales see the whole object, skip connections keep the edges.

    It is cheaper than the paper's encoder and has a larger receptive field.

    Args:
        channels: Channels at each scale, finest first; each scale halves the resolution.
        joined: Channels of extra maps concatenated to the input of each scale; none by default.

    Raises:
        ValueError: If there is no scale or a channel count is not positive.
    """

    def __init__(
        self, channels: Sequence[int] = (16, 32, 64, 128), joined: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        check_channels(channels, "encoder.channels")
        widths = (3, *channels)
        self.down = nn.ModuleList(
            nn.Sequential(Conv2dNormActivation(a + more, b), Conv2dNormActivation(b, b))
            for (a, b), more in zip(pairwise(widths), joined or [0] * len(channels), strict=True)
        )
        # Channels are reduced before upsampling, as the finest scale takes most of the time.
        self.reduce = nn.ModuleList(
            nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels)
        )
        self.up = nn.ModuleList(Conv2dNormActivation(2 * fine, fine) for fine in channels[:-1])
        self.head = _head(channels[0])

    def forward(self, images: Tensor, joined: Sequence[Sequence[Tensor]] = ()) -> Tensor:
        """Encode images to mean and log-variance.

        Args:
            images: Images, (B, 3, H, W).
            joined: Extra maps concatenated to the input of each scale, (B, C, any size).

        Returns:
            Mean and log-variance, (B, 2, H, W).
        """
        _check_images(images)
        features: list[Tensor] = []
        for block, others in zip(self.down, joined or [()] * len(self.down), strict=True):
            # ceil_mode keeps the last row and column of odd sizes.
            x = F.max_pool2d(features[-1], 2, ceil_mode=True) if features else images
            if others:
                x = torch.cat((x, *(_resize(other, x.shape[-2:]) for other in others)), dim=1)
            features.append(block(x))
        x = features.pop()
        stages = zip(reversed(self.reduce), reversed(self.up), reversed(features), strict=True)
        for reduce, block, skip in stages:
            x = block(torch.cat((skip, _resize(reduce(x), skip.shape[-2:])), dim=1))
        output: Tensor = self.head(x)
        return output


def _resize(features: Tensor, size: Sequence[int]) -> Tensor:
    if features.shape[-2:] == tuple(size):
        return features
    return F.interpolate(features, tuple(size), mode="bilinear", align_corners=False)
