"""Perturbations: replace the pixels that a mask does not keep by those of a baseline image.

A baseline is a module that maps images (B, 3, H, W) in [0, 1] to baseline images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def perturb(images: Tensor, mask: Tensor, baseline: Tensor) -> Tensor:
    """Blend images with baseline images, ``x' = m * x + (1 - m) * baseline(x)``.

    Args:
        images: Images x, (B, 3, H, W).
        mask: Mask m in [0, 1], (B, H, W).
        baseline: Baseline images, (B, 3, H, W).

    Returns:
        Perturbed images x', (B, 3, H, W).

    Example:
        >>> images, baseline = torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
        >>> perturb(images, torch.tensor([[[1.0, 0.25]]]), baseline)[0, 0]
        tensor([[1.0000, 0.2500]])
    """
    return torch.lerp(baseline, images, mask.unsqueeze(1).to(images.dtype))


class Blur(nn.Module):
    """Gaussian blur as two matrix products; the kernel is renormalised at the borders.

    Args:
        sigma: Standard deviation in pixels, > 0; None for a sixth of the shorter side.

    Raises:
        ValueError: If sigma is not positive.

    Example:
        >>> image = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]).expand(1, 3, 5, 5)
        >>> Blur(sigma=0.5)(image)[0, 0, 0].round(decimals=2)
        tensor([0.0000, 0.1100, 0.7900, 0.1100, 0.0000])
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
        with torch.autocast(images.device.type, enabled=False):  # the result keeps the dtype
            columns = _gaussian_weights(width, sigma, images.device).to(images.dtype)
            rows = columns
            if height != width:
                rows = _gaussian_weights(height, sigma, images.device).to(images.dtype)
            return rows @ images @ columns.mT


def _gaussian_weights(n: int, sigma: float, device: torch.device) -> Tensor:
    """Blur matrix (n, n): row i holds the weights of the n pixels in blurred pixel i."""
    pixel = torch.arange(n, dtype=torch.float32, device=device)
    weights = torch.exp(-0.5 * ((pixel[:, None] - pixel) / sigma).square())
    return weights / weights.sum(1, keepdim=True)


def blurred(images: Tensor) -> Tensor:
    """Blur images (B, 3, H, W) with a sigma of a sixth of their shorter side.

    Explanations are evaluated with these baseline images, whatever their training used.

    Example:
        >>> blurred(torch.full((1, 3, 6, 6), 0.5))[0, 0, 0]
        tensor([0.5000, 0.5000, 0.5000, 0.5000, 0.5000, 0.5000])
    """
    result: Tensor = Blur()(images)
    return result


class Mean(nn.Module):
    """Baseline of each image's mean colour.

    Example:
        >>> Mean()(torch.tensor([0.0, 0.5, 1.0]).expand(1, 3, 1, 3))[0, 0]
        tensor([[0.5000, 0.5000, 0.5000]])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Fill images (B, 3, H, W) with their mean colour."""
        return images.mean((-2, -1), keepdim=True).expand_as(images)


class Noise(nn.Module):
    """Baseline of Gaussian colour noise around each image's mean colour, clipped to [0, 1].

    Args:
        stddev: Standard deviation of the noise before clipping, >= 0.

    Raises:
        ValueError: If stddev is negative.

    Example:
        >>> Noise(stddev=0.1)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 3, 8, 8])
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
    """Baseline of one colour for all images.

    Args:
        colour: RGB values in [0, 1]; (0, 0, 0) is black.

    Raises:
        ValueError: If a value is outside [0, 1].

    Example:
        >>> Constant((1.0, 0.0, 0.0))(torch.rand(1, 3, 1, 2))[0, :, 0, 0]
        tensor([1., 0., 0.])
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


class Other(nn.Module):
    """Baseline of another image of the batch: kept pixels must stand out from real distractors.

    The batch is rolled by one place; a batch of one image stays as it is.

    Example:
        >>> Other()(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 1, 1))[:, 0, 0, 0]
        tensor([1., 0.])
    """

    def forward(self, images: Tensor) -> Tensor:
        """Replace each of the images (B, 3, H, W) by another one."""
        return images.roll(1, 0)


def is_fixed(perturbation: nn.Module) -> bool:
    """Whether each image always has the same baseline image; False for custom modules.

    Example:
        >>> is_fixed(Mean()), is_fixed(Noise())
        (True, False)
    """
    return isinstance(perturbation, (Blur, Mean, Constant))


def needs_batch(perturbation: nn.Module) -> bool:
    """Whether an image's baseline image depends on the other images of its batch.

    Example:
        >>> needs_batch(Mixture([Blur(), Other()])), needs_batch(Blur())
        (True, False)
    """
    return any(isinstance(module, Other) for module in perturbation.modules())


class Mixture(nn.Module):
    """One of several baselines, drawn at random for each image.

    Args:
        baselines: Baselines to draw from.
        weights: Relative probability of each baseline, > 0; equal by default.

    Raises:
        ValueError: If there is no baseline, or not one positive weight for each.

    Example:
        >>> mixture = Mixture([Mean(), Constant((0.5, 0.5, 0.5))], weights=[3, 1])
        >>> mixture(torch.full((2, 3, 1, 1), 0.5)).flatten(1)
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000]])
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
        # Drawn on the CPU, so that nothing waits for a GPU.
        drawn = torch.multinomial(torch.tensor(self.weights), len(images), replacement=True)
        result = torch.empty_like(images)
        for index, baseline in enumerate(self.baselines):
            chosen = (drawn == index).nonzero()[:, 0].to(images.device, non_blocking=True)
            if len(chosen):
                # Another image of the batch can only be found in the whole batch.
                whole = needs_batch(baseline)
                result[chosen] = baseline(images)[chosen] if whole else baseline(images[chosen])
        return result
