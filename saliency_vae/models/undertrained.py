"""Whether an explainer has become better than the gradient that needs no training."""

from collections.abc import Mapping

GAIN, GAIN_LOW, GAIN_HIGH = (f"val/insertion_gain{end}" for end in ("", "_low", "_high"))
_ROUNDING = 1e-4  # of two maps that are as good


def undertrained(metrics: Mapping[str, float]) -> str | None:
    """Warn, in one line, of an explainer that is not better than the gradient alone.

    Args:
        metrics: Metrics of its training. :data:`GAIN` is its mean insertion minus that of the
            gradient, over the baseline image of the training; the others are the ends of the
            interval (95 %).

    Returns:
        The warning; None if it is better, or the two were not compared.

    Example:
        >>> undertrained({GAIN: 0.1, GAIN_LOW: 0.05, GAIN_HIGH: 0.15})
        >>> undertrained({GAIN: 0.1, GAIN_LOW: -0.05, GAIN_HIGH: 0.25})[:38]
        'This explainer is not better than the '
    """
    if GAIN_LOW not in metrics or metrics[GAIN_LOW] > _ROUNDING:
        return None
    gain, low, high = (metrics.get(name, float("nan")) for name in (GAIN, GAIN_LOW, GAIN_HIGH))
    return (
        "This explainer is not better than the classifier's gradient alone, which needs no "
        f"training: insertion {gain:+.3f} [{low:+.3f}, {high:+.3f}] on validation images. Train "
        "it longer or on more images before you rely on it."
    )
