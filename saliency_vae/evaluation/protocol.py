"""How maps are scored: over which baseline images, in how many steps, on how many images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES, IMPUTATIONS, Baseline
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.wording import title
from saliency_vae.metrics import CurveEnds, curve_ends, masked_view

KEPT_FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.8)  # shares of the pixels kept for the agreement


@dataclass(frozen=True)
class Protocol:
    """How the maps of methods are scored.

    Attributes:
        baseline_images: Names of the baseline images for insertion and deletion; the first one is
            also used for the kept views.
        steps: Number of steps of insertion and deletion.
        tolerance: Distance from the true object that the pointing game still counts as a hit,
            pixels.
        slow_images: Number of images that slow methods are scored on; None for all.
        fraction: Share of the pixels, in (0, 1], for sufficiency and necessity.

    Raises:
        ValueError: If a name is unknown or a number out of range.

    Example:
        >>> from torch import nn
        >>> classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), name="toy")
        >>> images = torch.tensor([0.0, 0.2, 0.4, 0.6]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
        >>> made = Protocol(["zero", "mean"]).make_baseline_images(images, classifier)
        >>> {name: round(float(image[0, 0, 0, 0]), 3) for name, image in made.items()}
        {'zero': 0.0, 'mean': 0.3}
    """

    baseline_images: Sequence[str] = ("blur",)
    steps: int = 24
    tolerance: float = 0.0
    slow_images: int | None = None
    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not self.baseline_images or not set(self.baseline_images) <= BASELINE_IMAGES.keys():
            raise ValueError(
                f"Expected baseline_images among {', '.join(BASELINE_IMAGES)}. "
                f"Found {', '.join(self.baseline_images) or 'none'}."
            )
        if self.steps < 1 or self.tolerance < 0:
            raise ValueError(
                f"Expected steps >= 1 and tolerance >= 0 pixels. "
                f"Found {self.steps} and {self.tolerance}."
            )

    def make_baseline_images(
        self, images: Tensor, classifier: FrozenClassifier
    ) -> dict[str, Baseline]:
        """Baseline images of images (B, 3, H, W), or imputations, by name."""
        return {name: BASELINE_IMAGES[name](images, classifier) for name in self.baseline_images}

    def prepared_baselines(
        self, batch: Batch, classifier: FrozenClassifier
    ) -> dict[str, "PreparedBaseline"]:
        """Prepare the baseline images of a batch that holds the classifier's decision, by name."""
        images = batch["image"]
        return {
            name: PreparedBaseline(made, curve_ends(classifier, images, made, batch["decision"]))
            for name, made in self.make_baseline_images(images, classifier).items()
        }

    def remove(self, classifier: FrozenClassifier, images: Tensor, kept: Tensor) -> Tensor:
        """Show kept pixels (n, H, W) bool of images (n, 3, H, W) over the first baseline."""
        first = BASELINE_IMAGES[self.baseline_images[0]]
        return masked_view(images, kept, first(images, classifier))

    def with_unseen(self, seen: Collection[str]) -> "Protocol":
        """Add in-painting if training used all baseline images, so that one is unseen."""
        if not set(self.baseline_images) <= set(seen):
            return self
        return replace(self, baseline_images=[*self.baseline_images, IMPUTATIONS[0]])

    def limit(self, methods: Methods, name: str, number: int) -> int:
        """Number of images, out of ``number``, to score a method on; the explainer gets all."""
        if self.slow_images is None or name == EXPLAINER or not methods.is_slow(name):
            return number
        return min(self.slow_images, number)

    def left_out(self, methods: Methods, limits: Mapping[str, int]) -> tuple[str, ...]:
        """One sentence for each slow method that is scored on fewer images, or none."""
        most = max(limits.values(), default=0)
        return tuple(
            f"{title(name)}: takes "
            + (f"{methods.passes[name]:,.0f}" if limit else f"more than {methods.slow_passes}")
            + " passes of the classifier an image; "
            + (f"scored on {limit} images, " if limit else "scored with ")
            + f"slow_images={'N' if not limit else 'null scores it on all'}."
            for name, limit in limits.items()
            if limit < most
        )


@dataclass(frozen=True)
class PreparedBaseline:
    """Baseline images of a batch and their curve ends, the same for all methods.

    Attributes:
        baseline: Baseline images, (B, 3, H, W), or an imputation.
        ends: Ends of all curves over it, (B,) each.
    """

    baseline: Baseline
    ends: CurveEnds

    def first(self, number: int) -> "PreparedBaseline":
        """Select the first images."""
        of = self.baseline
        return PreparedBaseline(
            of[:number] if isinstance(of, Tensor) else of,
            CurveEnds(self.ends.none[:number], self.ends.whole[:number]),
        )


@torch.no_grad()
def with_decision(batch: Batch, classifier: FrozenClassifier) -> Batch:
    """Add the classifier's decision on each image to a batch, so that it is computed only once."""
    return {**batch, "decision": classifier.decide(classifier(batch["image"]))}
