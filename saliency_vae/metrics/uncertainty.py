"""Whether an uncertainty is worth anything: does it find the errors, and is it calibrated?"""

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_vae.metrics.ranking import average_rank

REJECTED = tuple(tenth / 10 for tenth in range(10))  # 0 to 90 %
SPARSIFIED = tuple(twentieth / 20 for twentieth in range(20))  # 0 to 95 %


def selective_curve(
    values: Tensor, uncertainty: Tensor, fractions: Sequence[float] = REJECTED
) -> Tensor:
    """Mean of what is kept as the most uncertain are rejected.

    Equally uncertain values are rejected in random order: the curve is its expectation.

    Args:
        values: MetricInfo or error of images or of pixels, (..., n).
        uncertainty: Of the same shape.
        fractions: To reject, rounded to whole values, each in [0, 1); at least one value is kept.

    Returns:
        (..., fractions) float64.

    Raises:
        ValueError: If a fraction is not in [0, 1).
    """
    if not all(0 <= fraction < 1 for fraction in fractions):
        raise ValueError(f"Expected fractions in [0, 1). Found {list(fractions)}.")
    n = values.shape[-1]
    ordered, order = uncertainty.contiguous().sort(-1)
    total = _sums(values.double().gather(-1, order))
    first = torch.searchsorted(ordered, ordered)  # of those equally uncertain
    end = torch.searchsorted(ordered, ordered, right=True)
    expected = (total.gather(-1, end) - total.gather(-1, first)) / (end - first)
    sizes = [max(1, n - round(fraction * n)) for fraction in fractions]
    kept = torch.tensor(sizes, device=values.device)
    return _sums(expected)[..., kept] / kept


def sparsification_curve(
    error: Tensor, uncertainty: Tensor, fractions: Sequence[float] = SPARSIFIED
) -> Tensor:
    """Mean error left as the most uncertain are removed, over the mean error of all.

    Args:
        error: Not negative, (..., n): the pixels of an image, say.
        uncertainty: Of the same shape. The error itself gives the oracle's curve.
        fractions: To remove, each in [0, 1), the first 0.

    Returns:
        (..., fractions) float64; 0 where there is no error at all.
    """
    left = selective_curve(error, uncertainty, fractions)
    everything = error.double().mean(-1, keepdim=True)
    return torch.where(everything > 0, left / everything, 0.0)


def ause(error: Tensor, uncertainty: Tensor, fractions: Sequence[float] = SPARSIFIED) -> Tensor:
    """Area under the sparsification error (Ilg et al. 2018): between the curve and the oracle's.

    Args:
        error: Not negative, (..., n).
        uncertainty: Of the same shape.
        fractions: See :func:`sparsification_curve`; the area is over this range.

    Returns:
        (...) float64, >= 0: 0 if the uncertainty sorts as the error does.
    """
    curve = sparsification_curve(error, uncertainty, fractions)
    oracle = sparsification_curve(error, error, fractions)
    return torch.trapezoid(curve - oracle, torch.tensor(fractions).to(curve))


def reliability_table(probability: Tensor, outcome: Tensor, bins: int = 15) -> Tensor:
    """Compare predicted with observed frequencies in bins of equal width, image by image.

    Tables of several images add up, or average: see :func:`calibration_error`.

    Args:
        probability: In [0, 1], (B, ...).
        outcome: Whether it came true, or how often, in [0, 1], of the same shape.
        bins: Of the probability.

    Returns:
        (B, bins, 3) float64: number of pixels, sum of probabilities, sum of outcomes.
    """
    probability, outcome = probability.double().flatten(1), outcome.double().flatten(1)
    index = (bins * probability).long().clamp_max(bins - 1)
    columns = torch.stack([torch.ones_like(probability), probability, outcome], -1)
    table = columns.new_zeros(len(probability), bins, 3)
    return table.scatter_add_(1, index[..., None].expand_as(columns), columns)


def calibration_error(table: Tensor) -> Tensor:
    """Expected calibration error, bins weighted by their counts.

    Args:
        table: From :func:`reliability_table`, summed or averaged over images, (..., bins, 3).

    Returns:
        (...), in [0, 1].
    """
    number, predicted, observed = table.unbind(-1)
    return (predicted - observed).abs().sum(-1) / number.sum(-1)


def expected_calibration_error(probability: Tensor, outcome: Tensor, bins: int = 15) -> Tensor:
    """Calibration error of all probabilities (B, ...) together; arguments as for the table."""
    return calibration_error(reliability_table(probability, outcome, bins).sum(0))


def failure_auroc(score: Tensor, failed: Tensor) -> Tensor:
    """Probability that a failure scores higher than a success; ties count half.

    Args:
        score: Uncertainty, (n,).
        failed: (n,) bool.

    Returns:
        Area under the ROC curve, a float64 scalar; NaN if all failed or none did.
    """
    failures = failed.sum()
    ranks = average_rank(score)[failed].sum() - failures * (failures + 1) / 2
    return ranks / (failures * (~failed).sum())


def _sums(values: Tensor) -> Tensor:
    """Sum of the first 0, 1, ..., n values, (..., n + 1)."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))
