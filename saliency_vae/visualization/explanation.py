"""The plain values of one explained image, from which its files and pictures are made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from saliency_vae.data import Preprocessing
from saliency_vae.visualization.overlay import Pixels

Prediction = Sequence[tuple[str, float]]  # class names and probabilities, most probable first


@dataclass(frozen=True, eq=False)
class InputImage:
    """An image as the classifier sees it and as people see it.

    It holds arrays because each tensor of a worker process would hold a file descriptor.

    Attributes:
        name: Path below the directory of the images.
        pixels: Image as the classifier sees it, (3, h, w) uint8.
        shown: Image at the size of a panel's tile, (3, H, W) uint8.
        size: Height and width of the original image.
        preprocessing: Preprocessing that turned the original image into ``pixels``.
    """

    name: str
    pixels: Pixels
    shown: Pixels
    size: tuple[int, int]
    preprocessing: Preprocessing

    def restore(self, maps: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Bring maps over ``pixels`` back to the original image.

        Args:
            maps: Maps of the size that the classifier sees, (..., h, w).
            at: Height and width of the result; by default those of the original image.

        Returns:
            Maps over the whole original image, (..., H, W); NaN where it was cropped.
        """
        return self.preprocessing.restore(maps, self.size, at)


@dataclass(frozen=True, eq=False)
class ClassifiedView:
    """An image and the classifier's prediction for it.

    Attributes:
        image: Image in [0, 1], (3, h, w).
        probabilities: Probability of each class, (classes,).
        prediction: Most probable classes.
    """

    image: Tensor
    probabilities: Tensor
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class Sample:
    """A saliency map drawn from the posterior: an alternative explanation.

    Attributes:
        scores: Saliency of each pixel, (h, w).
        kept: Kept view of this map.
    """

    scores: Tensor
    kept: ClassifiedView


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is known of one image; tensors are on the CPU, of the size that the classifier sees.

    Attributes:
        source: Image as it was read.
        original: Image and the classifier's prediction for it.
        kept: Kept view: the top ``fraction`` of the pixels over the baseline image.
        baseline: Baseline image, without information, (3, h, w) in [0, 1].
        maps: Posterior mean, stddev, and inclusion probability at ``fraction``, (3, h, w).
        gallery_inclusion: Inclusion probability at the gallery's fraction, 10 %, (h, w).
        fraction: Share of the pixels kept, in (0, 1].
        confidence: Estimated probability that the classifier's decision stays when only the most
            salient 5 % of the pixels are kept over a blur; of an explainer without a confidence
            network, the probability of the target on this view, as measured.
        samples: Maps drawn from the posterior; empty by default.
        objective: Objective before and after refinement, (2,), nats; None without refinement.
        target: Class that was asked about; None for the decision.
    """

    source: InputImage
    original: ClassifiedView
    kept: ClassifiedView
    baseline: Tensor
    maps: Tensor
    gallery_inclusion: Tensor
    fraction: float
    confidence: float
    samples: Sequence[Sample] = ()
    objective: Tensor | None = None
    target: str | None = None

    def is_finite(self) -> bool:
        """Whether no number of its maps, probabilities and confidence is NaN or infinite."""
        views = self.original, self.kept, *(sample.kept for sample in self.samples)
        values = (
            self.maps,
            self.gallery_inclusion,
            *(sample.scores for sample in self.samples),
            *(view.probabilities for view in views),
        )
        return math.isfinite(self.confidence) and all(bool(v.isfinite().all()) for v in values)
