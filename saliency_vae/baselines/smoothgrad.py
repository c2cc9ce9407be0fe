"""SmoothGrad (Smilkov et al. 2017) and VarGrad (Adebayo et al. 2018): gradients of noisy images."""

from collections.abc import Iterator

import torch
from torch import Tensor

from saliency_vae.baselines.merged import merged
from saliency_vae.baselines.target_score import ScoreInParts, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import recording_gradients


class _NoisyGradients:
    """Gradients of the score at noisy copies of images.

    Captum's ``NoiseTunnel`` is not used: it draws different noise for each position in a batch, so
    a map would depend on its batch.

    Args:
        samples: Number of noisy copies, one pass each; the noise is the same for every image.
        stddev: Standard deviation of the noise, on images in [0, 1].
        seed: Seed of the noise.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, samples: int = 25, stddev: float = 0.15, seed: int = 0) -> None:
        if samples < 1 or not stddev >= 0:
            raise ValueError(
                f"Expected samples >= 1 and stddev >= 0. Found {samples} and {stddev}."
            )
        self.samples = samples
        self.stddev = stddev
        self.seed = seed

    def gradients(self, batch: Batch, classifier: FrozenClassifier) -> Iterator[Tensor]:
        """Yield the gradient at each noisy copy, (B, 3, H, W)."""
        images, target = batch["image"].detach(), target_of(batch, classifier)
        score = ScoreInParts(merged(classifier, images))
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.samples):
            noise = torch.randn(images.shape[1:], generator=generator).to(images)
            with recording_gradients():
                noisy = (images + self.stddev * noise).requires_grad_()
                (gradient,) = torch.autograd.grad(score(noisy, target.clone()).sum(), noisy)
            yield gradient


class SmoothGrad(_NoisyGradients):
    """Mean magnitude of the gradients, summed over the colour channels."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        total = torch.zeros_like(batch["image"])
        for gradient in self.gradients(batch, classifier):
            total += gradient.abs()
        return total.sum(1) / self.samples


class VarGrad(_NoisyGradients):
    """Variance of the gradients, summed over the colour channels; also a map of uncertainty."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        mean = torch.zeros_like(batch["image"])
        squares = torch.zeros_like(mean)  # of deviations from the mean, by Welford (1962)
        for number, gradient in enumerate(self.gradients(batch, classifier), start=1):
            deviation = gradient - mean
            mean += deviation / number
            squares += deviation * (gradient - mean)
        return squares.sum(1) / self.samples
