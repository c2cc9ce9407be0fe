"""Quality of an uncertainty: whether it ranks the errors, and whether it is calibrated."""

from collections.abc import Sequence

import torch
from torch import Tensor

from saliency_vae.metrics.ranking import average_rank

REJECTED = tuple(tenth / 10 for tenth in range(10))  # 0 to 90 %
SPARSIFIED = tuple(twentieth / 20 for twentieth in range(20))  # 0 to 95 %


def selective_curve(
    values: Tensor, uncertainty: Tensor, fractions: Sequence[float] = REJECTED
) -> Tensor:
    """Mean of the remaining values as the most uncertain ones are rejected.

    Ties are rejected in random order; the curve is the expectation over that order.

    Args:
        values: Scores or errors of images or pixels, (..., n).
        uncertainty: Uncertainty of each value, (..., n).
        fractions: Shares to reject, each in [0, 1), rounded to whole values; at least one value
            is kept.

    Returns:
        Means, (..., fractions) float64.

    Raises:
        ValueError: If a fraction is not in [0, 1).

    Example:
        >>> error = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> selective_curve(error, uncertainty=error, fractions=(0.0, 0.5))
        tensor([2.5000, 1.5000], dtype=torch.float64)
    """
    if not all(0 <= fraction < 1 for fraction in fractions):
        raise ValueError(f"Expected fractions in [0, 1). Found {list(fractions)}.")
    n = values.shape[-1]
    ordered, order = uncertainty.contiguous().sort(-1)
    total = _sums(values.double().gather(-1, order))
    # The values whose uncertainty ties with a given one lie between first and end.
    first = torch.searchsorted(ordered, ordered)
    end = torch.searchsorted(ordered, ordered, right=True)
    expected = (total.gather(-1, end) - total.gather(-1, first)) / (end - first)
    sizes = [max(1, n - round(fraction * n)) for fraction in fractions]
    kept = torch.tensor(sizes, device=values.device)
    return _sums(expected)[..., kept] / kept


def sparsification_curve(error: Tensor, uncertainty: Tensor) -> Tensor:
    """Mean error of the remaining values as the most uncertain ones are removed, over that of all.

    Args:
        error: Errors, >= 0, (..., n), such as those of the pixels of an image.
        uncertainty: Uncertainty of each value, (..., n). The error itself gives the oracle's curve.

    Returns:
        Relative mean error, (..., 20) float64, for each removed share in :data:`SPARSIFIED`; 0
        where all errors are 0.

    Example:
        >>> error = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> sparsification_curve(error, uncertainty=-error)[[0, 10]]  # none and half removed
        tensor([1.0000, 1.4000], dtype=torch.float64)
    """
    left = selective_curve(error, uncertainty, SPARSIFIED)
    overall = error.double().mean(-1, keepdim=True)
    return torch.where(overall > 0, left / overall, 0.0)


def ause(error: Tensor, uncertainty: Tensor) -> Tensor:
    """Area under the sparsification error (Ilg et al. 2018), the curve minus the oracle's.

    Args:
        error: Errors, >= 0, (..., n).
        uncertainty: Uncertainty of each value, (..., n).

    Returns:
        Area over the shares :data:`SPARSIFIED`, (...) float64, >= 0; 0 if the uncertainty ranks the
        values as the error does.

    Example:
        >>> error = torch.arange(20.0)
        >>> ause(error, uncertainty=error), ause(error, uncertainty=-error) > 0.5
        (tensor(0., dtype=torch.float64), tensor(True))
    """
    curve, oracle = (sparsification_curve(error, by) for by in (uncertainty, error))
    return torch.trapezoid(curve - oracle, torch.tensor(SPARSIFIED).to(curve))


def aurc(error: Tensor, uncertainty: Tensor) -> Tensor:
    """Area under the error-coverage curve (Geifman et al. 2019): mean error over the coverages.

    Unlike :func:`ause`, it also depends on how large the errors are overall.

    Args:
        error: Errors, >= 0, (..., n).
        uncertainty: Uncertainty of each value, (..., n); the most uncertain are withheld first.

    Returns:
        Area over the shares :data:`SPARSIFIED`, divided by their range, (...) float64. An
        uninformative uncertainty gives the mean error.

    Example:
        >>> error = torch.arange(20.0)
        >>> aurc(error, uncertainty=error)  # of the means 9.5, 9.0, ..., 0.0
        tensor(4.7500, dtype=torch.float64)
    """
    curve = selective_curve(error, uncertainty, SPARSIFIED)
    area = torch.trapezoid(curve, torch.tensor(SPARSIFIED).to(curve))
    return area / (SPARSIFIED[-1] - SPARSIFIED[0])


def reliability_table(probability: Tensor, outcome: Tensor, bins: int = 15) -> Tensor:
    """Compare predicted with observed frequencies in bins of equal width, image by image.

    Tables of several images may be summed or averaged for :func:`calibration_error`.

    Args:
        probability: Predicted probabilities, in [0, 1], (B, ...).
        outcome: Outcomes, or their observed frequencies, in [0, 1], (B, ...).
        bins: Number of bins of the probability.

    Returns:
        Table, (B, bins, 3) float64: number of pixels, sum of probabilities, sum of outcomes.

    Example:
        >>> reliability_table(torch.tensor([[0.2, 0.9]]), torch.tensor([[0.0, 1.0]]), bins=2)
        tensor([[[1.0000, 0.2000, 0.0000],
                 [1.0000, 0.9000, 1.0000]]], dtype=torch.float64)
    """
    probability, outcome = probability.double().flatten(1), outcome.double().flatten(1)
    index = (bins * probability).long().clamp_max(bins - 1)
    columns = torch.stack([torch.ones_like(probability), probability, outcome], -1)
    table = columns.new_zeros(len(probability), bins, 3)
    return table.scatter_add_(1, index[..., None].expand_as(columns), columns)


def calibration_error(table: Tensor) -> Tensor:
    """Expected calibration error, with bins weighted by their counts.

    Args:
        table: Table of :func:`reliability_table`, summed or averaged over images, (..., bins, 3).

    Returns:
        Error, (...), in [0, 1].

    Example:
        >>> tables = reliability_table(torch.tensor([[0.5], [0.5]]), torch.tensor([[0.0], [1.0]]))
        >>> calibration_error(tables), calibration_error(tables.sum(0))
        (tensor([0.5000, 0.5000], dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    number, predicted, observed = table.unbind(-1)
    return (predicted - observed).abs().sum(-1) / number.sum(-1)


def expected_calibration_error(probability: Tensor, outcome: Tensor, bins: int = 15) -> Tensor:
    """Expected calibration error of all probabilities together, a scalar.

    Arguments are those of :func:`reliability_table`.

    Example:
        >>> expected_calibration_error(torch.tensor([[0.2, 0.9]]), torch.tensor([[0.0, 1.0]]))
        tensor(0.1500, dtype=torch.float64)
    """
    return calibration_error(reliability_table(probability, outcome, bins).sum(0))


def failure_auroc(score: Tensor, failed: Tensor) -> Tensor:
    """Area under the ROC curve: the probability that a failure scores higher than a success.

    Args:
        score: Uncertainty, (n,).
        failed: Failures, (n,) bool.

    Returns:
        Area, a float64 scalar, ties counting half; NaN if all failed or none did.

    Example:
        >>> failure_auroc(torch.tensor([0.9, 0.4, 0.1]), torch.tensor([True, False, False]))
        tensor(1., dtype=torch.float64)
    """
    failures = failed.sum()
    ranks = average_rank(score)[failed].sum() - failures * (failures + 1) / 2
    return ranks / (failures * (~failed).sum())


def _sums(values: Tensor) -> Tensor:
    """Sums of the first 0, 1, ..., n values, (..., n + 1)."""
    return torch.nn.functional.pad(values.cumsum(-1), (1, 0))
