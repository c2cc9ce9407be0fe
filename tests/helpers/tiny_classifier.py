"""A convolutional classifier of a few thousand weights, for tests."""

from torch import nn


def build() -> nn.Module:
    """Make a classifier of ten classes with feature maps at strides 2 and 4."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
