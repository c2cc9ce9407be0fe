"""Per-image optimisation: the posterior of each image by itself, with no encoder."""

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.distributions import Family
from saliency_vae.models import explain_without_training


class PerImageOptimisation:
    """Posterior mean of :func:`saliency_vae.models.refinement.explain_without_training`.

    Args:
        steps: Number of Adam steps.
        lr: Learning rate of Adam.
        samples: Number of maps drawn for each image and step.
        family: Family of the posterior: ``mean_field`` or ``correlated``.
        seed: Seed of the noise.

    Raises:
        ValueError: If a number is not positive.
    """

    def __init__(
        self,
        steps: int = 200,
        lr: float = 0.05,
        samples: int = 4,
        family: Family = "mean_field",
        seed: int = 0,
    ) -> None:
        if steps < 1 or samples < 1 or not lr > 0:
            raise ValueError(
                f"Expected steps, samples >= 1 and lr > 0. Found {steps}, {samples} and {lr}."
            )
        self.steps = steps
        self.lr = lr
        self.samples = samples
        self.family = family
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        mean: Tensor = explain_without_training(
            batch["image"],
            classifier,
            steps=self.steps,
            lr=self.lr,
            samples=self.samples,
            family=self.family,
            seed=self.seed,
        ).posterior.mean
        return mean.detach()
