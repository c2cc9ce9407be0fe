"""Removing information from the pixels that a mask does not keep.

A baseline maps images (B, 3, H, W) in [0, 1] to their information-free counterparts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def perturb(images: Tensor, mask: Tensor, baseline: Tensor) -> Tensor:
    """Blend ``m * x + (1 - m) * baseline(x)``.

    Args:
        images: (B, 3, H, W).
        mask: In [0, 1], (B, H, W).
        baseline: (B, 3, H, W).

    Returns:
        Perturbed images, (B, 3, H, W).
    """
    return torch.lerp(baseline, images, mask.unsqueeze(1).to(images.dtype))


class Blur(nn.Module):
    """Gaussian blur as two matrix products; the kernel is renormalised at the borders.

    Args:
        sigma: Standard deviation in pixels, > 0; None for a sixth of the shorter side.

    Raises:
        ValueError: If sigma is not positive.
    """

    def __init__(self, sigma: float | None = None) -> None:
        super().__init__()
        if sigma is not None and not sigma > 0:
            raise ValueError(f"Expected perturbation.sigma > 0 pixels. Found {sigma}.")
        self.sigma = sigma

    def forward(self, images: Tensor) -> Tensor:
        """Blur images (B, 3, H, W)."""
        height, width = images.shape[-2:]
        sigma = min(height, width) / 6 if self.sigma is None else self.sigma
        rows = _gaussian_weights(height, sigma, images.device).to(images.dtype)
        columns = _gaussian_weights(width, sigma, images.device).to(images.dtype)
        with torch.autocast(images.device.type, enabled=False):  # a baseline is as exact as images
            return rows @ images @ columns.mT


_MOST_WEIGHTS = 16
_weights: dict[tuple[int, float, torch.device], Tensor] = {}


def _gaussian_weights(n: int, sigma: float, device: torch.device) -> Tensor:
    of = n, sigma, device
    if of in _weights:
        return _weights[of]
    with torch.inference_mode(False):  # what is kept may be used in training later
        pixel = torch.arange(n, dtype=torch.float32, device=device)
        weights = torch.exp(-0.5 * ((pixel[:, None] - pixel) / sigma).square())
        weights = weights / weights.sum(1, keepdim=True)
    if type(weights) is Tensor:  # and no stand-in of an export
        if len(_weights) >= _MOST_WEIGHTS:
            _weights.clear()
        _weights[of] = weights
    return weights


def blurred(images: Tensor) -> Tensor:
    """Blur images (B, 3, H, W): what explanations are judged over, however they were trained."""
    result: Tensor = Blur()(images)
    return result


class Mean(nn.Module):
    """Each image's own mean colour."""

    def forward(self, images: Tensor) -> Tensor:
        """Fill images (B, 3, H, W) with their mean colour."""
        return images.mean((-2, -1), keepdim=True).expand_as(images)


class Noise(nn.Module):
    """Gaussian colour noise around each image's mean colour, clipped to [0, 1].

    Args:
        stddev: Of the noise before clipping, >= 0.

    Raises:
        ValueError: If stddev is negative.
    """

    def __init__(self, stddev: float = 0.25) -> None:
        super().__init__()
        if not stddev >= 0:
            raise ValueError(f"Expected perturbation.stddev >= 0. Found {stddev}.")
        self.stddev = stddev

    def forward(self, images: Tensor) -> Tensor:
        """Replace images (B, 3, H, W) by noise."""
        mean = images.mean((-2, -1), keepdim=True)
        return (mean + self.stddev * torch.randn_like(images)).clamp(0, 1)


class Constant(nn.Module):
    """One colour for all images.

    Args:
        colour: RGB in [0, 1]; black for (0, 0, 0).

    Raises:
        ValueError: If a value is outside [0, 1].
    """

    colour: Tensor

    def __init__(self, colour: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        super().__init__()
        if len(colour) != 3 or not all(0 <= value <= 1 for value in colour):
            raise ValueError(
                f"Expected perturbation.colour of 3 numbers in [0, 1]. Found {tuple(colour)}."
            )
        self.register_buffer("colour", torch.tensor(colour)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Fill images (B, 3, H, W) with the colour."""
        return self.colour.to(images).expand_as(images)


class Mixture(nn.Module):
    """One of several baselines, drawn for each image.

    Args:
        baselines: To draw from.
        weights: Their probabilities up to scale; equal if left out.

    Raises:
        ValueError: If there is no baseline, or weights do not match or are not positive.
    """

    def __init__(
        self, baselines: Sequence[nn.Module], weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        weights = [1.0] * len(baselines) if weights is None else [float(w) for w in weights]
        if not baselines or len(weights) != len(baselines) or not all(w > 0 for w in weights):
            raise ValueError(
                "Expected perturbation.weights to hold one positive number for each of "
                f"{len(baselines)} (at least 1) baselines. Found {weights}."
            )
        self.baselines = nn.ModuleList(baselines)
        self.weights = weights

    def forward(self, images: Tensor) -> Tensor:
        """Draw a baseline for each of the images (B, 3, H, W)."""
        weights = torch.tensor(self.weights, device=images.device)
        drawn = torch.multinomial(weights, len(images), replacement=True)
        result = torch.empty_like(images)
        for index, baseline in enumerate(self.baselines):
            chosen = drawn == index
            result[chosen] = baseline(images[chosen])
        return result
