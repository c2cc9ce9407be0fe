"""Measuring how a classifier responds to the pixels that a saliency map marks.

The two numbers of an explanation are defined here, and mean the same wherever they are shown:

- *Sufficiency* is the probability of the target on the kept view: the most salient pixels, a given
  fraction of all, over a baseline image.
- *Necessity* is the drop in the probability of the target on the left-out view, the image with
  these pixels replaced by the baseline image: its probability on the image minus that on this view.

The target is the class that the user chose, or else the classifier's decision.
"""

from dataclasses import dataclass
from typing import Any

# Shares of the pixels at which explanations are measured, besides the one that the user chose.
FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class Measurement:
    """The target on an image, and on the kept and the left-out view of a saliency map.

    Attributes:
        fraction: Share of the pixels that are kept, or left out, in (0, 1].
        on_image: Probability of the target on the image, in [0, 1]; its score if the target is a
            function from logits to a score.
        on_kept_view: The same on the kept view.
        on_left_out_view: The same on the left-out view.
        decision_stays: Whether the decision on the kept view is that on the image.
        decision_lost: Whether the decision on the left-out view is another one.
        is_probability: False if the three values are scores.

    Example:
        >>> Measurement(0.1, 0.75, 0.5, 0.25, decision_stays=True, decision_lost=True).necessity
        0.5
    """

    fraction: float
    on_image: float
    on_kept_view: float
    on_left_out_view: float
    decision_stays: bool
    decision_lost: bool
    is_probability: bool = True

    @property
    def sufficiency(self) -> float | None:
        """Probability of the target on the kept view, in [0, 1]; None if the target is a score."""
        return self.on_kept_view if self.is_probability else None

    @property
    def necessity(self) -> float | None:
        """Drop in the target's probability on the left-out view, in [-1, 1]; None for a score."""
        return self.on_image - self.on_left_out_view if self.is_probability else None

    def __str__(self) -> str:
        """Write both numbers, or three scores, as a panel shows them."""
        if self.sufficiency is None or self.necessity is None:
            return (
                f"score {self.on_image:.3g}, kept {self.on_kept_view:.3g}, "
                f"left out {self.on_left_out_view:.3g}"
            )
        necessity = round(self.necessity, 2) + 0.0  # no negative zero
        return f"sufficiency {self.sufficiency:.2f}, necessity {necessity:.2f}"

    def to_plain(self) -> dict[str, Any]:
        """All values by name, ready for JSON."""
        return {**vars(self), "sufficiency": self.sufficiency, "necessity": self.necessity}
