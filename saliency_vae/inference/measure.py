"""Measuring what maps are worth: the classifier on the views that keep or leave out their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier, Target
from saliency_vae.classifiers.targets import class_index
from saliency_vae.perturbations import perturb
from saliency_vae.visualization import Measurement

_VIEWS = 64  # most views of one pass: their activations take the memory


@dataclass(frozen=True)
class Views:
    """The kept and the left-out views of several maps of each image of a batch.

    Attributes:
        classifier: Classifier of the views, on the images' device.
        images: Images in [0, 1], (B, 3, h, w).
        baseline: Baseline images, (B, 3, h, w).
        masks: Pixels that are kept, or left out, (B, maps, h, w) bool.
    """

    classifier: FrozenClassifier
    images: Tensor
    baseline: Tensor
    masks: Tensor

    def kept(self, index: int) -> Tensor:
        """Kept views of the map of an index, (B, 3, h, w)."""
        return perturb(self.images, self.masks[:, index], self.baseline)

    def left_out(self, index: int) -> Tensor:
        """Left-out views of the map of an index, (B, 3, h, w)."""
        return perturb(self.images, ~self.masks[:, index], self.baseline)

    def classify(self) -> tuple[Tensor, Tensor]:
        """Classify all views in one pass; where they are more than 64, in passes of 64.

        Returns:
            Logits of the kept and of the left-out views, (B, maps, classes) each.
        """
        masks = torch.cat([self.masks, ~self.masks], dim=1)
        number = masks.shape[1]
        logits = []
        for views in torch.arange(masks[..., 0, 0].numel(), device=masks.device).split(_VIEWS):
            rows = views // number
            seen = perturb(self.images[rows], masks.flatten(0, 1)[views], self.baseline[rows])
            logits.append(self.classifier(seen))
        kept, left_out = torch.cat(logits).unflatten(0, (-1, number)).chunk(2, dim=1)
        return kept, left_out


@dataclass(frozen=True)
class Question:
    """What is asked of a classifier about the images of a batch.

    Attributes:
        classifier: The classifier.
        logits: Logits of the images, (B, classes).
        target: Target as the explainer takes it; None for the decision.
    """

    classifier: FrozenClassifier
    logits: Tensor
    target: Target | None

    def weights(self) -> Tensor | None:
        """Weights of the logits that are asked about, (B, classes); None where it is a score."""
        if self.target is None:
            return self.classifier.decide(self.logits)
        weights = self.target(self.logits) if callable(self.target) else self.target
        return weights if weights.ndim == 2 else None

    def values(self, logits: Tensor) -> Tensor:
        """Probability of the target, or its score, by logits (B, views, classes): (B, views)."""
        views, weights = logits.shape[1], self.weights()
        if weights is not None:
            repeated = weights.repeat_interleave(views, dim=0)
            return self.classifier.probability(logits.flatten(0, 1), repeated).unflatten(
                0, (-1, views)
            )
        assert callable(self.target)
        return self.target(logits.flatten(0, 1)).unflatten(0, (-1, views))

    def keeps_decision(self, logits: Tensor) -> Tensor:
        """Whether logits (B, views, classes) decide as those of the image: (B, views) bool."""
        views = logits.shape[1]
        decided = self.classifier.decide(self.logits).repeat_interleave(views, dim=0)
        same = self.classifier.keeps_decision(logits.flatten(0, 1), decided)
        return same.unflatten(0, (-1, views))

    def measure(
        self, kept: Tensor, left_out: Tensor, fractions: Sequence[float]
    ) -> list[list[Measurement]]:
        """Measure maps by the logits of their views.

        Args:
            kept: Logits of the kept views, (B, maps, classes).
            left_out: Logits of the left-out views, (B, maps, classes).
            fractions: Share of the pixels that each map's views keep or leave out.

        Returns:
            For each image a measurement of each map.
        """
        is_probability = self.weights() is not None
        columns = (
            self.values(self.logits[:, None]).expand(-1, len(fractions)),
            self.values(kept),
            self.values(left_out),
            self.keeps_decision(kept),
            ~self.keeps_decision(left_out),
        )
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            [
                Measurement(*values, is_probability=is_probability)
                for values in zip(fractions, *row, strict=True)
            ]
            for row in rows
        ]


def target_name(asked: object, classifier: FrozenClassifier) -> str | None:
    """Name what a person asks about; None for the decision.

    Args:
        asked: Index or name of a class, or a function of the logits.
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
