"""The plain values of one explained image, from which its files and pictures are made."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from saliency_vae.data import Preprocessing, load_rgb
from saliency_vae.runtime.text import as_percent
from saliency_vae.topk import top_pixels
from saliency_vae.visualization.measurement import Measurement
from saliency_vae.visualization.overlay import Pixels, encoded, is_finite

Prediction = Sequence[tuple[str, float]]  # class names and probabilities, most probable first
Map = NDArray[np.float32]

UNLIKE = "unlike the training's images"  # label of images that the explainer is out of depth on


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
        original: The original RGB image; or its file, so that a batch of large ones fits into
            memory.
    """

    name: str
    pixels: Pixels
    shown: Pixels
    size: tuple[int, int]
    preprocessing: Preprocessing
    original: Image.Image | Path

    @property
    def checksum(self) -> int:
        """CRC-32 of ``pixels``."""
        return zlib.crc32(np.ascontiguousarray(self.pixels).data)

    def restore(self, maps: Tensor, at: tuple[int, int] | None = None) -> Tensor:
        """Resample maps of ``pixels`` onto the original image.

        Args:
            maps: Maps of the size of ``pixels``, (..., h, w).
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
    """A saliency map drawn from the posterior, chosen as an alternative to the mean.

    Attributes:
        scores: Saliency of each pixel, (h, w).
        kept: Kept view of this map.
        measured: Measurement of the target on this map's views.
    """

    scores: Tensor
    kept: ClassifiedView
    measured: Measurement


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """An explained image: its saliency maps, their sufficiency and necessity, and a picture.

    The properties give maps at the image's own size, float32 (H, W), with NaN where the
    preprocessing crops the image. A notebook shows the panel of :meth:`plot`.

    The attributes below have the size (h, w) that the classifier sees, and are on the CPU.

    Attributes:
        source: Image as it was read.
        original: Image and the classifier's prediction for it.
        kept: Kept view: the most salient pixels over the baseline image.
        left_out: Left-out view: the image with these pixels replaced by the baseline image.
        baseline: Baseline image, without information, (3, h, w) in [0, 1].
        maps: Posterior mean, stddev, and inclusion probability at ``fraction``, (3, h, w).
        measured: Sufficiency and necessity at ``fraction``.
        curve: The same at ``fraction`` and at all of ``FRACTIONS``, by rising fraction; at
            ``fraction`` alone if no more was measured.
        estimated_confidence: Confidence network's estimate of the probability that the decision
            stays when 5 % of the pixels are kept over a blur; None without such a network.
        out_of_depth: Whether the image is unlike the training images, so that this estimate is a
            guess; None if unknown.
        drawn: Alternatives among maps drawn from the posterior: each overlaps little with the mean
            and with those before; without a target, those that keep the decision come first.
        samples_stay: Share of all maps drawn from the posterior whose kept view keeps the decision;
            None if none was drawn.
        objective: Objective before and after refinement, (2,); None without refinement.
        target: Name of the target; None for the decision.
    """

    source: InputImage
    original: ClassifiedView
    kept: ClassifiedView
    left_out: ClassifiedView
    baseline: Tensor
    maps: Tensor
    measured: Measurement
    curve: Sequence[Measurement] = ()
    estimated_confidence: float | None = None
    out_of_depth: bool | None = None
    drawn: Sequence[Sample] = ()
    samples_stay: float | None = None
    objective: Tensor | None = None
    target: str | None = None

    @property
    def name(self) -> str:
        """Name of the image, such as its file's."""
        return self.source.name

    @property
    def image(self) -> Pixels:
        """The image itself, RGB, (H, W, 3) uint8.

        Raises:
            OSError: If the image was left in its file, and the file can no longer be read.
        """
        original = self.source.original
        return np.array(load_rgb(original) if isinstance(original, Path) else original)

    @property
    def mean(self) -> Map:
        """Posterior mean, the most plausible saliency map, (H, W)."""
        return self._restored(self.maps[0])

    @property
    def stddev(self) -> Map:
        """Posterior standard deviation of each pixel's saliency, (H, W)."""
        return self._restored(self.maps[1])

    @property
    def inclusion_probability(self) -> Map:
        """Probability that a pixel is among the most salient ``fraction``, in [0, 1], (H, W)."""
        return self._restored(self.maps[2])

    @property
    def samples(self) -> Map:
        """Alternative saliency maps, drawn from the posterior, (samples, H, W)."""
        if not self.drawn:
            return np.empty((0, *self.source.size), dtype=np.float32)
        return self._restored(torch.stack([sample.scores for sample in self.drawn]))

    @property
    def overlaps(self) -> list[float]:
        """Share of the mean's kept set that each sample's kept set shares, in [0, 1]."""
        scores = torch.stack([self.maps[0], *(sample.scores for sample in self.drawn)])
        mean, *kept = top_pixels(scores, self.fraction)
        return [float((mask & mean).sum() / mean.sum()) for mask in kept]

    @property
    def prediction(self) -> Prediction:
        """The classifier's most probable classes and their probabilities, the decision first."""
        return self.original.prediction

    @property
    def asked(self) -> str:
        """The target with its probability on the image, for display; empty for the decision."""
        if self.target is None or not self.measured.is_probability:
            return self.target or ""
        return f"{self.target} ({as_percent(self.measured.on_image)})"

    @property
    def fraction(self) -> float:
        """Share of the pixels that the kept view shows, in (0, 1]."""
        return self.measured.fraction

    @property
    def sufficiency(self) -> float | None:
        """Probability of the target on the kept view, in [0, 1]; None if the target is a score."""
        return self.measured.sufficiency

    @property
    def necessity(self) -> float | None:
        """Drop in the target's probability on the left-out view, in [-1, 1]; None for a score."""
        return self.measured.necessity

    def plot(self) -> Image.Image:
        """Draw the panel: image, maps, kept and left-out view, and then the samples."""
        from saliency_vae.visualization.panel import draw_panel  # that module imports this one

        return draw_panel(self)

    def save(self, path: str | Path) -> None:
        """Write the panel (``.png``), the maps and numbers (``.npz``) or the numbers (``.json``).

        Args:
            path: File to write; its extension selects the content.

        Raises:
            ValueError: If it has another extension.
            OSError: If it cannot be written; an earlier file stays as it was.
        """
        from saliency_vae.visualization.explanation_files import save_explanation  # likewise

        save_explanation(self, Path(path))

    def __repr__(self) -> str:
        """Describe the explanation in one line: image, decision, target and measurement."""
        label, probability = self.prediction[0]
        asked = f", target {self.asked}" if self.asked else ""
        unlike = f"; {UNLIKE}" if self.out_of_depth else ""
        return (
            f"<Explanation of {self.name}: decision {label} ({as_percent(probability)}){asked}; "
            f"top {100 * self.fraction:.3g} %: {self.measured}{unlike}>"
        )

    def _repr_jpeg_(self) -> bytes:
        """Panel as a notebook shows it; as a PNG it would be three times as large."""
        return encoded(self.plot(), "JPEG", quality=80)

    def _restored(self, maps: Tensor) -> Map:
        restored: Map = self.source.restore(maps).numpy()
        return restored

    def is_finite(self) -> bool:
        """Whether all maps, probabilities and measured values are finite."""
        views = self.original, self.kept, self.left_out, *(sample.kept for sample in self.drawn)
        values = (
            self.maps,
            *(sample.scores for sample in self.drawn),
            *(view.probabilities for view in views),
        )
        measured = [self.measured, *self.curve, *(sample.measured for sample in self.drawn)]
        numbers = [
            value
            for one in measured
            for value in (one.on_image, one.on_kept_view, one.on_left_out_view)
        ]
        numbers.append(self.estimated_confidence or 0.0)
        return all(map(math.isfinite, numbers)) and all(map(is_finite, values))
