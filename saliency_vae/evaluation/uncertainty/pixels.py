"""Whether the uncertainty of pixels predicts where independent runs rank them differently."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier, counted_passes
from saliency_vae.data import Batch
from saliency_vae.distributions import INCLUSION_FRACTION, SaliencyPosterior
from saliency_vae.evaluation.protocol import with_decision
from saliency_vae.evaluation.resampling import LEAST_IMAGES, Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.conformal import RankRegions, rank_regions, undecided
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.rivals import (
    CONFORMAL,
    ENSEMBLE,
    RELAX,
    REPEAT,
    VARGRAD,
    Rival,
)
from saliency_vae.evaluation.verdicts import Verdict, judge_uncertainty, too_few
from saliency_vae.metrics import (
    SPARSIFIED,
    Interval,
    aurc,
    ause,
    calibration_error,
    descending_rank,
    reliability_table,
    sparsification_curve,
    spearman,
)
from saliency_vae.models import Explainer
from saliency_vae.topk import num_kept, top_pixels

INCLUSION = "P(1-P)"  # P: probability that a pixel is among the most salient
STDDEV = "standard deviation"
SIGNAL_SPREAD = "spread of the signals"
DISTANCE = "nearness to the threshold"
FAINT = "lack of saliency"
ROLES = {
    INCLUSION: Role.EXPLAINER,
    STDDEV: Role.EXPLAINER,
    SIGNAL_SPREAD: Role.EXPLAINER,
    DISTANCE: Role.CONTROL,
    FAINT: Role.CONTROL,
    VARGRAD: Role.CONTROL,
    REPEAT: Role.RIVAL,
    RELAX: Role.RIVAL,
    ENSEMBLE: Role.RIVAL,
    CONFORMAL: Role.RIVAL,
}
_PREDICTED = {
    "top": "which pixels are wrongly in or out of the top 10 %",
    "rank": "how far the rank of a pixel is off",
}


@dataclass(frozen=True)
class PixelMaps:
    """Maps of N images for judging the uncertainty of pixels, on the CPU.

    Attributes:
        uncertainties: Uncertainty to its maps, (N, H, W), higher where less certain.
        mean: Mean of the explainer's posterior, (N, H, W).
        inclusion: Probability that a pixel is among the top 10 %, by that posterior, (N, H, W).
        references: Maps of R independent runs, (R, N, H, W).
        passes: Uncertainty to its number of classifier passes for one image whose decision is
            known.
    """

    uncertainties: Mapping[str, Tensor]
    mean: Tensor
    inclusion: Tensor
    references: Tensor
    passes: Mapping[str, float] = field(default_factory=dict)


def gather_pixel_maps(
    batches: Iterable[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
    runs: Sequence[Method],
    rivals: Sequence[Rival],
) -> PixelMaps:
    """Gather uncertainties, the explainer's maps, and the maps of independent runs.

    Args:
        batches: Batches of images.
        explainer: Explainer to evaluate.
        classifier: Classifier to explain.
        runs: Independent runs, at least one.
        rivals: Published uncertainties.
    """
    gathered: list[PixelMaps] = []
    for batch in (with_decision(each, classifier) for each in batches):
        with torch.no_grad(), counted_passes() as counted:
            posterior = explainer(batch["image"])
            uncertainties = pixel_uncertainties(posterior)
        passes = dict.fromkeys([*uncertainties, CONFORMAL], counted.number / len(posterior.mean))
        for rival in rivals:
            with counted_passes() as counted:
                found = rival(batch, classifier)
            uncertainties |= found
            passes |= dict.fromkeys(found, counted.number / len(posterior.mean))
        gathered.append(
            PixelMaps(
                {name: values.cpu() for name, values in uncertainties.items()},
                posterior.mean.cpu(),
                posterior.inclusion_probability(INCLUSION_FRACTION).cpu(),
                torch.stack([run(batch, classifier).cpu() for run in runs]),
                passes,
            )
        )
    return PixelMaps(
        {
            name: torch.cat([part.uncertainties[name] for part in gathered])
            for name in gathered[0].uncertainties
        },
        torch.cat([part.mean for part in gathered]),
        torch.cat([part.inclusion for part in gathered]),
        torch.cat([part.references for part in gathered], dim=1),
        gathered[0].passes,
    )


def pixel_uncertainties(
    posterior: SaliencyPosterior,
    fraction: float = INCLUSION_FRACTION,
    shrink: Callable[[Tensor], Tensor] = lambda maps: maps,
) -> dict[str, Tensor]:
    """Uncertainties of a posterior, and controls that need only its mean.

    Args:
        posterior: Posterior of batch shape (B,).
        fraction: Share of the pixels that are kept.
        shrink: Function that reduces maps (B, H, W) to smaller ones, (B, h, w), such as the means
            of patches.

    Returns:
        Uncertainty to its maps, (B, h, w), higher where less certain.
    """
    probability = posterior.inclusion_probability(fraction)
    mean = shrink(posterior.mean)
    k = num_kept(fraction, mean[0].numel())
    threshold = mean.flatten(1).topk(k).values[:, -1, None, None]
    found = {
        INCLUSION: shrink(probability * (1 - probability)),
        STDDEV: shrink(posterior.stddev),
        DISTANCE: -(mean - threshold).abs(),
        FAINT: -mean,
    }
    if posterior.signal_spread is not None:
        found[SIGNAL_SPREAD] = shrink(posterior.signal_spread)
    return found


def assess_pixels(maps: PixelMaps, *, resampling: Resampling) -> UncertaintyReport:
    """Report how well uncertainties predict wrong pixels, and the calibration of inclusion.

    Args:
        maps: Maps of the images.
        resampling: How images are resampled for intervals.
    """
    rank, right = _ranks(maps)
    number = num_kept(INCLUSION_FRACTION, rank.shape[1])
    regions = rank_regions(rank, right, resampling.groups_of(len(rank)))
    conformal = {"top": undecided(regions, rank, number), "rank": regions.half_width}
    report = UncertaintyReport(intervals=_costs(maps, regions, resampling))
    for kind, error in pixel_errors(maps).items():
        uncertainties = {name: values.flatten(1) for name, values in maps.uncertainties.items()}
        uncertainties[CONFORMAL] = conformal[kind]
        report += _assess_error(kind, error, uncertainties, resampling)
    return report + _assess_calibration(maps, resampling)


def _ranks(maps: PixelMaps) -> tuple[Tensor, Tensor]:
    """Ranks of the pixels in the mean map, and their consensus ranks in the references, (N, HW)."""
    found = descending_rank(maps.mean), consensus_rank(maps.references)
    return found[0].flatten(1), found[1].flatten(1)


def _costs(
    maps: PixelMaps, regions: RankRegions, resampling: Resampling
) -> dict[str, dict[str, Interval]]:
    """Passes that each uncertainty takes, and the coverage of the conformal regions."""
    exact = {name: torch.tensor(passes) for name, passes in maps.passes.items()}
    passes = {name: Interval(number, number, number) for name, number in exact.items()}
    covered = {CONFORMAL: resampling.mean(regions.covered)}
    return ({"passes": passes} if passes else {}) | {"covered": covered}


def pixel_errors(maps: PixelMaps) -> dict[str, Tensor]:
    """Error of each pixel of the mean map against the references, (N, HW) in [0, 1].

    ``top``: absolute difference of whether the pixel is among the top 10 %, 1 or 0, and the share
    of the references in which it is. ``rank``: distance of its rank from its consensus rank, over
    the number of pixels; most of it lies in the background, whose order means little.
    """
    rank, right = _ranks(maps)
    among_top = rank < num_kept(INCLUSION_FRACTION, rank.shape[1])
    return {
        "top": (among_top.double() - included(maps.references).flatten(1)).abs(),
        "rank": (rank - right).abs() / rank.shape[1],
    }


def consensus_rank(references: Tensor) -> Tensor:
    """Rank pixels by their mean rank in R maps (R, N, H, W): (N, H, W).

    A rank by the mean of the maps would be dominated by the map with the largest scale.
    """
    ranks = torch.stack([descending_rank(maps) for maps in references])
    return descending_rank(-ranks.double().mean(0))


def included(references: Tensor) -> Tensor:
    """Share of R maps (R, N, H, W) in which a pixel is among the top 10 %: (N, H, W)."""
    return top_pixels(references, INCLUSION_FRACTION).double().mean(0)


def _assess_error(
    kind: str, error: Tensor, uncertainties: Mapping[str, Tensor], resampling: Resampling
) -> UncertaintyReport:
    """Report how well uncertainties predict one kind of error, (N, HW) each."""
    correlation = {name: spearman(values, error) for name, values in uncertainties.items()}
    intervals: dict[str, dict[str, Interval]] = {
        f"spearman_{kind}": {name: resampling.mean(values) for name, values in correlation.items()},
        f"ause_{kind}": {
            name: resampling.mean(ause(error, values)) for name, values in uncertainties.items()
        },
        f"aurc_{kind}": {
            name: resampling.mean(aurc(error, values)) for name, values in uncertainties.items()
        },
    }
    orders = {**uncertainties, "oracle": error}
    curve = {
        name: sparsification_curve(error, order).mean(0).tolist() for name, order in orders.items()
    }
    return UncertaintyReport(
        tuple(_judge_error(kind, correlation, resampling)),
        intervals,
        {f"sparsification_{kind}": {"removed": list(SPARSIFIED), **curve}},
        {name: ROLES[name] for name in uncertainties} | {"oracle": Role.ORACLE},
    )


def _judge_error(
    kind: str, correlation: Mapping[str, Tensor], resampling: Resampling
) -> list[Verdict]:
    """One verdict for each uncertainty of the explainer."""
    images = resampling.independent(len(correlation[STDDEV]))
    if images < LEAST_IMAGES:
        return [too_few(f"Per pixel, predicting {_PREDICTED[kind]}", images)]
    others = [name for name in correlation if ROLES[name] is not Role.EXPLAINER]
    best = max(others, key=lambda name: float(correlation[name].mean()))
    control, what = correlation[best], _PREDICTED[kind]
    return [
        judge_uncertainty(
            f"Per pixel, this explainer's {name} {{}} the best {ROLES[best]}, {best}, at "
            f"predicting {what}: Spearman {values.mean():.3f} against {control.mean():.3f}",
            resampling.difference(values, control),
            above_chance=bool(resampling.mean(values).low > 0),
        )
        for name, values in correlation.items()
        if ROLES[name] is Role.EXPLAINER
    ]


def _assess_calibration(maps: PixelMaps, resampling: Resampling) -> UncertaintyReport:
    """Report how often independent runs include a pixel, for each inclusion probability.

    Most pixels are certainly not among the most salient, so that the error of all of them is small.
    Those with a probability of .05 to .95 (18 of 20 bins) are judged by themselves as well.
    """
    outcome = included(maps.references)
    table = reliability_table(maps.inclusion, outcome)
    tables = {
        "ece": table,
        "ece_undecided": reliability_table(maps.inclusion, outcome, bins=20)[:, 1:-1],
    }
    total = table.sum(0)
    number, predicted, observed = total[total[:, 0] > 0].unbind(1)
    curve = {
        "predicted": (predicted / number).tolist(),
        "observed": (observed / number).tolist(),
        "share": (number / number.sum()).tolist(),
    }
    return UncertaintyReport(
        intervals={
            metric: {INCLUSION: _calibration(of_images, resampling)}
            for metric, of_images in tables.items()
            if of_images[..., 0].sum() > 0
        },
        curves={"reliability": curve},
        roles={INCLUSION: ROLES[INCLUSION]},
    )


def _calibration(tables: Tensor, resampling: Resampling) -> Interval:
    """Calibration error of all images together, from a reliability table (bins, 3) of each."""
    return resampling.statistic(
        lambda images: calibration_error(tables[images].sum(0)), len(tables)
    )
