"""Is the uncertainty worth anything? Each figure of it beside its control."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.distributions.posterior import CONFIDENCE_FRACTION
from saliency_vae.metrics.bootstrap import Interval, difference_interval, mean_interval
from saliency_vae.metrics.ranking import descending_rank, spearman
from saliency_vae.metrics.uncertainty import (
    REJECTED,
    SPARSIFIED,
    ause,
    calibration_error,
    failure_auroc,
    reliability_table,
    selective_curve,
    sparsification_curve,
)
from saliency_vae.topk import hard_topk, kept

OURS = "ours: P(1-P)"
_RESAMPLES = 500


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What was measured.
        interval: Its mean and 95 % bootstrap interval over images.
        meaning: What it says.
        ours: Whether it is of our uncertainty rather than a control.
    """

    name: str
    interval: Interval
    meaning: str
    ours: bool


def pixel_uncertainties(posterior: SaliencyPosterior, vargrad: Tensor | None) -> dict[str, Tensor]:
    """Uncertainty of every pixel's membership of the top 10 %, ours and its controls.

    Args:
        posterior: Of the images, batch shape (B,).
        vargrad: VarGrad's maps, (B, H, W).

    Returns:
        By name, (B, H, W), higher where less certain.
    """
    probability = posterior.inclusion_probability(CONFIDENCE_FRACTION)
    mean = posterior.mean
    k = kept(CONFIDENCE_FRACTION, mean[0].numel())
    border = mean.flatten(1).topk(k).values[:, -1, None, None]
    found = {
        OURS: probability * (1 - probability),
        "control: distance to the threshold": -(mean - border).abs(),
        "raw posterior stddev": posterior.stddev,
    }
    return found if vargrad is None else found | {"VarGrad": vargrad}


def evaluate_pixels(
    uncertainties: Mapping[str, Tensor],
    mean: Tensor,
    inclusion: Tensor,
    references: Tensor,
    *,
    seed: int,
) -> tuple[list[Row], list[str], dict[str, Any]]:
    """Hold per-pixel uncertainty against independent references.

    Args:
        uncertainties: By name, (B, H, W), ours first, its control second.
        mean: Of our posterior, (B, H, W).
        inclusion: Our inclusion probability, (B, H, W).
        references: Maps of R independent runs, (R, B, H, W).
        seed: Of the bootstrap.

    Returns:
        Rows, findings in plain words, and what the figures show.
    """
    pixels = mean[0].numel()
    target = descending_rank(references.mean(0))
    error = (descending_rank(mean) - target).abs().float() / pixels
    correlation = {name: spearman(values, error) for name, values in uncertainties.items()}
    k = kept(CONFIDENCE_FRACTION, pixels)
    observed = hard_topk(references.flatten(2), k).view_as(references).float().mean(0)
    table = reliability_table(inclusion, observed)
    rows = [
        Row(
            f"Spearman with rank error, {name}",
            mean_interval(values, seed=seed),
            "of the pixel's uncertainty with how far its rank is from the reference's",
            name == OURS,
        )
        for name, values in correlation.items()
    ]
    flat = error.flatten(1)
    rows += [
        Row(
            f"AUSE, {name}",
            mean_interval(ause(flat, values.flatten(1)), seed=seed),
            "area between its sparsification curve and the oracle's; 0 is perfect",
            name == OURS,
        )
        for name, values in uncertainties.items()
    ]
    rows.append(
        Row(
            "ECE of the inclusion probability",
            bootstrap(lambda index: calibration_error(table[index].sum(0)), len(mean), seed=seed),
            f"against {len(references)} independent runs; 0 is perfect",
            True,
        )
    )
    (ours, first), (control, second) = list(correlation.items())[:2]
    findings = [
        _verdict(
            "Per pixel, where the map is wrong (Spearman)", ours, control, first, second, seed=seed
        )
    ]
    total = table.sum(0)
    used = total[:, 0] > 0
    number, predicted, true = total[used].unbind(1)
    figures = {
        "reliability": {
            "share": (number / number.sum()).tolist(),
            "predicted": (predicted / number).tolist(),
            "observed": (true / number).tolist(),
        },
        "ece": float(calibration_error(total)),
        "sparsification": {
            **{
                name: sparsification_curve(flat, values.flatten(1)).mean(0).tolist()
                for name, values in uncertainties.items()
            },
            "oracle": sparsification_curve(flat, flat).mean(0).tolist(),
        },
        "sparsified": list(SPARSIFIED),
    }
    return rows, findings, figures


def evaluate_images(
    confidence: Tensor,
    controls: Mapping[str, Tensor],
    agreement: Tensor,
    insertion: Tensor,
    *,
    seed: int,
) -> tuple[list[Row], list[str], dict[str, Any]]:
    """Hold per-image confidence against whether the explanation fails.

    Args:
        confidence: Ours, (N,).
        controls: Uncertainties by name, (N,), the strongest control first.
        agreement: Whether the view of 5 % of the pixels decides alike, (N,).
        insertion: Insertion AUC, (N,).
        seed: Of the bootstrap.

    Returns:
        Rows, findings in plain words, and what the figures show.
    """
    failed = agreement < 0.5
    scores = {"ours: 1 - confidence": 1 - confidence, **controls}
    findings, rows = [], []
    if failed.any() and not failed.all():
        for name, score in scores.items():
            interval = bootstrap(
                lambda index: failure_auroc(score[index], failed[index]),  # noqa: B023
                len(failed),
                seed=seed,
            )
            meaning = "of predicting that agreement fails at 5 % kept; 0.5 is chance"
            rows.append(Row(f"AUROC of failure, {name}", interval, meaning, name.startswith("our")))
        control = next(iter(controls))
        ours = scores["ours: 1 - confidence"]
        difference = bootstrap(
            lambda index: (
                failure_auroc(ours[index], failed[index])
                - failure_auroc(controls[control][index], failed[index])
            ),
            len(failed),
            seed=seed,
        )
        findings.append(
            f"Per image, predicting failure at 5 % (AUROC): ours {_compared(difference)} the "
            f"control, {control} (difference {_text(difference)})."
        )
    figures = {
        "selective": {n: selective_curve(insertion, s).tolist() for n, s in scores.items()},
        "rejected": list(REJECTED),
    }
    return rows, findings, figures


def bootstrap(statistic: Callable[[Tensor], Tensor], number: int, *, seed: int) -> Interval:
    """Interval of any statistic of resampled images; draws where it is undefined are left out."""
    generator = torch.Generator().manual_seed(seed)
    draws = [
        statistic(torch.randint(number, (number,), generator=generator)) for _ in range(_RESAMPLES)
    ]
    values = torch.stack(draws).double()
    values = values[values.isfinite()]
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return Interval(statistic(torch.arange(number)).double(), low, high)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy of class probabilities (B, classes): (B,), nats; of labels, summed over them."""
    if probabilities.shape[1] > 1 and torch.allclose(
        probabilities.sum(1), torch.ones(len(probabilities), device=probabilities.device), atol=1e-3
    ):
        spread: Tensor = torch.special.entr(probabilities)
        return spread.sum(1)
    spread = torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
    return spread.sum(1)


def _verdict(
    what: str, ours: str, control: str, first: Tensor, second: Tensor, *, seed: int
) -> str:
    difference = difference_interval(first, second, seed=seed)
    return f"{what}: {ours} {_compared(difference)} {control} (difference {_text(difference)})."


def _compared(difference: Interval) -> str:
    if difference.low > 0:
        return "beats"
    return "is beaten by" if difference.high < 0 else "cannot be told from"


def _text(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
