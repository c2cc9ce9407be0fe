"""Small networks for cluttered digits, of several families."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from saliency_vae.data.cluttered_digits import NUM_CLASSES

Architecture = Literal["convolutional", "residual", "transformer"]


class DigitNet(nn.Sequential):
    """Six convolutional blocks at a half, a quarter and an eighth of the resolution."""

    def __init__(self) -> None:
        super().__init__(
            Conv2dNormActivation(3, 16, stride=2),
            Conv2dNormActivation(16, 24),
            nn.MaxPool2d(2),
            Conv2dNormActivation(24, 48),
            Conv2dNormActivation(48, 48),
            nn.MaxPool2d(2),
            Conv2dNormActivation(48, 64),
            Conv2dNormActivation(64, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(64, NUM_CLASSES),
        )


class ResidualBlock(nn.Module):
    """Two convolutions with group norm, added to their input.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output, a multiple of 8.
        stride: Stride of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.GELU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Add the branch to the shortcut, (B, outputs, h, w)."""
        return nn.functional.gelu(self.branch(images) + self.shortcut(images))


class ResidualDigitNet(nn.Sequential):
    """Residual blocks with group norm at a half, a quarter and an eighth of the resolution."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            ResidualBlock(16, 32, stride=2),
            ResidualBlock(32, 48),
            ResidualBlock(48, 64, stride=2),
            ResidualBlock(64, 64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64, NUM_CLASSES),
        )


class DigitTransformer(nn.Module):
    """Vision transformer with a class token over patches of 4x4 features of half the resolution.

    Args:
        image_size: Height and width of the images in pixels, a multiple of 8.
        width: Width of the tokens.
        depth: Number of blocks.
    """

    def __init__(self, image_size: int, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Sequential(  # convolutions first: a small transformer learns faster
            nn.Conv2d(3, 24, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, width, 2, stride=2),
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, (image_size // 8) ** 2, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 4, 2 * width, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W): logits (B, classes)."""
        patches = self.patches(images).flatten(2).mT + self.position
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], 1)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits


def digit_network(architecture: Architecture, image_size: int) -> nn.Module:
    """Make an untrained network for images of a size."""
    if architecture == "transformer":
        return DigitTransformer(image_size)
    return ResidualDigitNet() if architecture == "residual" else DigitNet()
