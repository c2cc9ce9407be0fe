"""GradientSHAP (Lundberg & Lee 2017), the expected gradients of Erion et al. (2021)."""

import torch
from torch import Tensor

from saliency_vae.baselines.fill import Fill, check_fill, filled
from saliency_vae.baselines.target_score import ScoreInParts, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import recording_gradients


class GradientSHAP:
    """Mean, over points between baseline and noisy image, of gradient times their difference.

    The map is the sum of magnitudes over the colour channels. Captum's is not used: it draws the
    points of a batch from NumPy's global random numbers, so that a map would depend on its batch.

    Args:
        samples: Number of points, each of which costs a pass; the same for every image.
        stddev: Standard deviation of the noise, on images in [0, 1].
        fills: Baseline images, taken in turn: ``blur`` or ``black``.
        seed: Seed of points and noise.

    Raises:
        ValueError: If a number is out of range or a fill unknown.
    """

    def __init__(
        self,
        samples: int = 25,
        stddev: float = 0.09,
        fills: tuple[Fill, ...] = ("blur",),
        seed: int = 0,
    ) -> None:
        if samples < 1 or not stddev >= 0 or not fills:
            raise ValueError(
                "Expected samples >= 1, stddev >= 0 and at least one fill. "
                f"Found {samples}, {stddev} and {list(fills)}."
            )
        for fill in fills:
            check_fill(fill)
        self.samples = samples
        self.stddev = stddev
        self.fills = tuple(fills)
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        generator = torch.Generator().manual_seed(self.seed)
        score = ScoreInParts(classifier)
        with recording_gradients():
            images, target = batch["image"].detach().clone(), target_of(batch, classifier)
            baselines = [filled(images, fill) for fill in self.fills]
            total = torch.zeros_like(images)
            for sample in range(self.samples):
                noise = torch.randn(images.shape[1:], generator=generator).to(images)
                share = torch.rand((), generator=generator).item()
                baseline = baselines[sample % len(baselines)]
                difference = images + self.stddev * noise - baseline
                point = (baseline + share * difference).requires_grad_()
                (gradient,) = torch.autograd.grad(score(point, target).sum(), point)
                total += gradient * difference
        return (total / self.samples).abs().sum(1)
