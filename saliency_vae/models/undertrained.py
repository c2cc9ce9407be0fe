"""Whether a trained explainer is better than the classifier's plain gradient."""

from collections.abc import Mapping

GAIN, GAIN_LOW, GAIN_HIGH = (f"val/insertion_gain{end}" for end in ("", "_low", "_high"))
FEWEST = 5  # images for which an interval is meaningful
_ROUNDING = 1e-4  # tolerance for two maps that are equally good


def undertrained(metrics: Mapping[str, float]) -> str | None:
    """Make a one-line warning if an explainer is not better than the gradient alone.

    Args:
        metrics: Metrics of its training. :data:`GAIN` is its mean insertion minus that of the
            gradient, over the training's baseline image. The others are the ends of the 95 %
            interval, which is missing if fewer than 5 images were compared.

    Returns:
        The warning, also if too few images were compared; None if the explainer is better, or the
        two were not compared.

    Example:
        >>> undertrained({GAIN: 0.1, GAIN_LOW: 0.05, GAIN_HIGH: 0.15})
        >>> undertrained({GAIN: 0.1, GAIN_LOW: -0.05, GAIN_HIGH: 0.25})[:38]
        'This explainer is not better than the '
    """
    if GAIN not in metrics or metrics.get(GAIN_LOW, 0.0) > _ROUNDING:
        return None
    gain, low, high = (metrics.get(name, float("nan")) for name in (GAIN, GAIN_LOW, GAIN_HIGH))
    if GAIN_LOW not in metrics:
        return (
            "It is not known whether this explainer is better than the classifier's gradient "
            f"alone, which needs no training: fewer than {FEWEST} validation images were compared "
            f"(insertion {gain:+.3f}). Train it with more of them before you rely on it."
        )
    return (
        "This explainer is not better than the classifier's gradient alone, which needs no "
        f"training: insertion {gain:+.3f} [{low:+.3f}, {high:+.3f}] on validation images. Train "
        "it longer or on more images before you rely on it."
    )
