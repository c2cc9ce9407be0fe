"""Small networks for cluttered digits, of several families."""

from typing import Literal

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from saliency_vae.data.digit_images import NUM_CLASSES

Architecture = Literal["convolutional", "residual"]


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


def digit_network(architecture: Architecture) -> nn.Module:
    """Make an untrained network."""
    return ResidualDigitNet() if architecture == "residual" else DigitNet()
