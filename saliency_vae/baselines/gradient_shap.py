"""GradientSHAP (Lundberg & Lee 2017), the expected gradients of Erion et al. (2021)."""

import torch
from torch import Tensor, nn

from saliency_vae.baselines.merged import merged
from saliency_vae.baselines.target_score import ScoreInParts, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.perturbations import Blur
from saliency_vae.runtime.autograd import recording_gradients


class GradientSHAP:
    """Gradient times (noisy image - baseline), averaged over random points between the two.

    The map is the sum of magnitudes over the colour channels. Captum's version is not used: it
    draws the points from NumPy's global random state, so a map would depend on its batch.

    Args:
        samples: Number of points, one pass each; every image uses the same points.
        stddev: Standard deviation of the noise, on images in [0, 1].
        baseline: Makes the baseline images, see :mod:`saliency_vae.perturbations`; by default a
            blur by a sixth of the shorter side.
        seed: Seed of the points and the noise.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        samples: int = 25,
        stddev: float = 0.09,
        baseline: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        if samples < 1 or not stddev >= 0:
            raise ValueError(
                f"Expected samples >= 1 and stddev >= 0. Found {samples} and {stddev}."
            )
        self.samples = samples
        self.stddev = stddev
        self.baseline = baseline or Blur()
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        generator = torch.Generator().manual_seed(self.seed)
        score = ScoreInParts(merged(classifier, batch["image"]))
        with recording_gradients():
            images, target = batch["image"].detach().clone(), target_of(batch, classifier)
            baseline, total = self.baseline(images), torch.zeros_like(images)
            for _ in range(self.samples):
                noise = torch.randn(images.shape[1:], generator=generator).to(images)
                share = torch.rand((), generator=generator).item()
                difference = images + self.stddev * noise - baseline
                point = (baseline + share * difference).requires_grad_()
                (gradient,) = torch.autograd.grad(score(point, target).sum(), point)
                total += gradient * difference
        return (total / self.samples).abs().sum(1)
