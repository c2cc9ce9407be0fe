"""Measuring saliency maps by the classifier's predictions for their kept and left-out views."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier, Target
from saliency_vae.classifiers.targets import class_index
from saliency_vae.metrics import view_logits
from saliency_vae.perturbations import perturb
from saliency_vae.visualization import Measurement


@dataclass(frozen=True)
class Views:
    """The kept and the left-out views of several maps of each image of a batch.

    Attributes:
        classifier: Classifier of the views, on the images' device.
        images: Images in [0, 1], (B, 3, h, w).
        baseline: Baseline images, (B, 3, h, w).
        masks: Top pixels of each map, which are kept or left out, (B, maps, h, w) bool.
    """

    classifier: FrozenClassifier
    images: Tensor
    baseline: Tensor
    masks: Tensor

    def kept(self, index: int) -> Tensor:
        """Kept views of the map at an index, (B, 3, h, w)."""
        return perturb(self.images, self.masks[:, index], self.baseline)

    def left_out(self, index: int) -> Tensor:
        """Left-out views of the map at an index, (B, 3, h, w)."""
        return perturb(self.images, ~self.masks[:, index], self.baseline)

    def classify(self) -> tuple[Tensor, Tensor]:
        """Classify all views.

        Returns:
            Logits of the kept and of the left-out views, (B, maps, classes) each.
        """
        masks = torch.cat([self.masks, ~self.masks], dim=1)
        logits = view_logits(self.classifier, self.images, masks, self.baseline)
        kept, left_out = logits.chunk(2, dim=1)
        return kept, left_out


@dataclass(frozen=True)
class Question:
    """The target to explain for a batch of images, with the classifier's logits.

    Attributes:
        classifier: The classifier.
        logits: Logits of the images, (B, classes).
        target: Target as the explainer takes it; None for the decision.
    """

    classifier: FrozenClassifier
    logits: Tensor
    target: Target | None

    def weights(self) -> Tensor | None:
        """Target as weights of the logits, (B, classes); None if it is a score."""
        if self.target is None:
            return self.classifier.decide(self.logits)
        weights = self.target(self.logits) if callable(self.target) else self.target
        return weights if weights.ndim == 2 else None

    def values(self, logits: Tensor) -> Tensor:
        """Probability or score of the target, (B, views), from logits (B, views, classes)."""
        weights = self.weights()
        if weights is not None:
            return self.classifier.probability(logits, weights[:, None].expand_as(logits))
        assert callable(self.target)
        return self.target(logits.flatten(0, 1)).reshape(logits.shape[:2])

    def keeps_decision(self, logits: Tensor) -> Tensor:
        """Whether logits (B, views, classes) give the image's decision: (B, views) bool."""
        return self.classifier.keeps_decision(logits, self.classifier.decide(self.logits)[:, None])

    def measure(
        self, kept: Tensor, left_out: Tensor, fractions: Sequence[float]
    ) -> list[list[Measurement]]:
        """Measure maps from the logits of their views.

        Args:
            kept: Logits of the kept views, (B, maps, classes).
            left_out: Logits of the left-out views, (B, maps, classes).
            fractions: Share of the pixels that each map's views keep or leave out.

        Returns:
            One list per image, with a measurement of each map.
        """
        of_probability = [self.weights() is not None] * len(fractions)
        columns = (
            self.values(self.logits[:, None]).expand(-1, len(fractions)),
            self.values(kept),
            self.values(left_out),
            self.keeps_decision(kept),
            ~self.keeps_decision(left_out),
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            [Measurement(*one) for one in zip(fractions, *row, of_probability, strict=True)]
            for row in rows
        ]


def target_name(asked: object, classifier: FrozenClassifier) -> str | None:
    """Name the target that a user gave; None for the decision.

    Args:
        asked: Index or name of a class, or a function of the logits; None for the decision.
        classifier: Classifier that knows the names of its classes.
    """
    if asked is None:
        return None
    if callable(asked):
        name = getattr(asked, "__name__", "<unnamed>")
        return "a function of the logits" if name.startswith("<") else name
    if isinstance(asked, str):
        return classifier.category(class_index(asked, classifier.categories))
    (index,) = torch.as_tensor(asked).flatten().tolist()
    return classifier.category(index)
