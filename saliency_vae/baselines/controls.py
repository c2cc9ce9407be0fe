"""Controls that ignore the classifier, the oracle, and a blur of another method's maps."""

import zlib

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.baselines.method import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.perturbations import Blur


class RandomMap:
    """Uniform noise that depends only on the seed and the image, not on the rest of the batch.

    Args:
        seed: Seed of the noise.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Draw maps (B, H, W) in [0, 1)."""
        return torch.stack([self._draw(image) for image in batch["image"]])

    def _draw(self, image: Tensor) -> Tensor:
        content = zlib.crc32(image.detach().cpu().contiguous().numpy().tobytes(), self.seed)
        noise = torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(content))
        return noise.to(image.device)


class CentrePrior:
    """Negative distance to the centre of the image.

    Example:
        >>> from torch import nn
        >>> classifier = FrozenClassifier(nn.Flatten(), name="any")
        >>> CentrePrior()({"image": torch.zeros(1, 3, 1, 5)}, classifier).tolist()
        [[[-2.0, -1.0, -0.0, -1.0, -2.0]]]
    """

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Compute maps (B, H, W), in pixels."""
        images = batch["image"]
        rows, columns = (
            torch.arange(size, device=images.device) - (size - 1) / 2 for size in images.shape[-2:]
        )
        return -torch.hypot(rows[:, None], columns).expand(len(images), -1, -1)


class EdgeMagnitude:
    """Magnitude of the Sobel gradient of the greyscale image."""

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Compute maps (B, H, W), >= 0."""
        grey = F.pad(batch["image"].mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        smooth, slope = grey.new_tensor([1.0, 2.0, 1.0]), grey.new_tensor([-1.0, 0.0, 1.0])
        across = torch.outer(smooth, slope)
        edges = F.conv2d(grey, torch.stack([across, across.mT])[:, None])
        return torch.hypot(edges[:, 0], edges[:, 1])


class Blurred:
    """Maps of another method after a Gaussian blur.

    Args:
        method: Method whose maps are blurred.
        sigma: Standard deviation of the blur as a fraction of the shorter side of the image, > 0.

    Raises:
        ValueError: If sigma is not positive.
    """

    def __init__(self, method: Method, sigma: float = 1 / 24) -> None:
        if not sigma > 0:
            raise ValueError(f"Expected sigma > 0 of the shorter side. Found {sigma}.")
        self.method = method
        self.sigma = sigma
        self.zero_is_neutral = getattr(method, "zero_is_neutral", False)

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        return _blur(self.method(batch, classifier), self.sigma)


class Oracle:
    """The true mask plus a light blur, which ranks the pixels inside it and those outside.

    Args:
        sigma: Standard deviation of the blur as a fraction of the shorter side of the image.
    """

    def __init__(self, sigma: float = 1 / 48) -> None:
        self.sigma = sigma

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Make maps (B, H, W) in [0, 2] from the true masks; values inside a mask are above 1.

        Raises:
            ValueError: If the batch has no true masks.
        """
        if "mask" not in batch:
            raise ValueError(f"Expected data with true masks for the oracle. Found {list(batch)}.")
        mask = batch["mask"].float()
        return mask + _blur(mask, self.sigma)


def _blur(maps: Tensor, sigma: float) -> Tensor:
    blurred: Tensor = Blur(sigma * min(maps.shape[-2:]))(maps.unsqueeze(1))
    return blurred.squeeze(1)
