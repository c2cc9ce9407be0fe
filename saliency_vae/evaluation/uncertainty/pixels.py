"""Is the uncertainty of pixels worth anything? Each number on it beside its control's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.distributions import INCLUSION_FRACTION, SaliencyPosterior
from saliency_vae.evaluation.methods import ExplainerMethod
from saliency_vae.evaluation.results import Finding, Results
from saliency_vae.evaluation.sanity import same_classifier
from saliency_vae.evaluation.verdicts import LEAST_IMAGES, against_control, too_few
from saliency_vae.metrics import (
    SPARSIFIED,
    ause,
    calibration_error,
    descending_rank,
    difference_interval,
    mean_interval,
    reliability_table,
    sparsification_curve,
    spearman,
    statistic_interval,
)
from saliency_vae.models import Explainer, explain_without_training, load_explainer
from saliency_vae.topk import hard_topk, num_kept

UNCERTAINTY = "ours, P(1-P)"
STDDEV = "ours, raw stddev"
_DISTANCE = "control, nearness to the threshold"
_FAINT = "control, lack of saliency"
_VARGRAD = "control, VarGrad"
_IN_WORDS = {
    UNCERTAINTY: "our uncertainty P(1-P)",
    STDDEV: "our raw stddev",
}
_WRONG = {"top": "which pixels of the top 10 % are wrong", "rank": "whose rank is wrong"}


class FromPrior:
    """One independent run: the explainer's own objective optimised image by image, no encoder.

    Args:
        explainer: Whose objective, prior and family are taken.
        steps: Of the optimisation.
        seed: Of its noise.
    """

    def __init__(self, explainer: Explainer, *, steps: int, seed: int) -> None:
        self.explainer = explainer
        self.objective = explainer.objective()
        self.steps = steps
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        images = batch["image"]
        mean: Tensor = explain_without_training(
            images,
            classifier,
            steps=self.steps,
            prior=self.explainer.prior(images, self.explainer.signals(images)),
            family=self.explainer.posterior,
            objective=self.objective,
            seed=self.seed,
        ).posterior.mean
        return mean


def independent_runs(
    explainer: Explainer, *, number: int, steps: int, seed: int, ensemble: Sequence[str] = ()
) -> list[Method]:
    """Explanations that owe nothing to our encoder's training.

    Args:
        explainer: Ours.
        number: Of runs from the prior, with different noise.
        steps: Of each.
        seed: Of the first.
        ensemble: Directories of explainers trained with other seeds: a run each.

    Raises:
        ValueError: If one of the ensemble explains another classifier.
    """
    runs: list[Method] = [
        FromPrior(explainer, steps=steps, seed=seed + run) for run in range(number)
    ]
    for directory in ensemble:
        other = load_explainer(directory)
        if not same_classifier(explainer, other):
            raise ValueError(
                f"Expected ensemble=[...] of explainers of the same classifier. Found {directory}."
            )
        runs.append(ExplainerMethod(other))
    return runs


@dataclass(frozen=True)
class Evidence:
    """What per-pixel uncertainty is judged by, on the CPU.

    Attributes:
        uncertainties: By name, (N, H, W), higher where less certain.
        mean: Of our posterior, (N, H, W).
        inclusion: Our probability that a pixel is among the top 10 %, (N, H, W).
        references: Maps of R independent runs, (R, N, H, W).
    """

    uncertainties: Mapping[str, Tensor]
    mean: Tensor
    inclusion: Tensor
    references: Tensor


def gather_evidence(
    batches: Iterable[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
    runs: Sequence[Method],
    vargrad: Method | None = None,
) -> Evidence:
    """Explain images by ours and by independent runs.

    Args:
        batches: Of images.
        explainer: Ours.
        classifier: To explain.
        runs: Independent ones, at least one.
        vargrad: VarGrad, as a further control.
    """
    gathered: list[Evidence] = []
    for batch in batches:
        with torch.no_grad():
            posterior = explainer(batch["image"])
            uncertainties = pixel_uncertainties(posterior)
        if vargrad is not None:
            uncertainties[_VARGRAD] = vargrad(batch, classifier)
        gathered.append(
            Evidence(
                {name: values.cpu() for name, values in uncertainties.items()},
                posterior.mean.cpu(),
                posterior.inclusion_probability(INCLUSION_FRACTION).cpu(),
                torch.stack([run(batch, classifier).cpu() for run in runs]),
            )
        )
    return Evidence(
        {
            name: torch.cat([part.uncertainties[name] for part in gathered])
            for name in gathered[0].uncertainties
        },
        torch.cat([part.mean for part in gathered]),
        torch.cat([part.inclusion for part in gathered]),
        torch.cat([part.references for part in gathered], dim=1),
    )


def pixel_uncertainties(posterior: SaliencyPosterior) -> dict[str, Tensor]:
    """Ours, and controls that need nothing but the mean.

    Args:
        posterior: Of batch shape (B,).

    Returns:
        By name, (B, H, W), higher where less certain.
    """
    probability = posterior.inclusion_probability(INCLUSION_FRACTION)
    mean = posterior.mean
    k = num_kept(INCLUSION_FRACTION, mean[0].numel())
    border = mean.flatten(1).topk(k).values[:, -1, None, None]
    return {
        UNCERTAINTY: probability * (1 - probability),
        STDDEV: posterior.stddev,
        _DISTANCE: -(mean - border).abs(),
        _FAINT: -mean,
    }


def add_pixels(results: Results, evidence: Evidence) -> None:
    """Add how well uncertainty finds the pixels that are wrong, and how calibrated it is."""
    uncertainties = {name: values.flatten(1) for name, values in evidence.uncertainties.items()}
    for kind, error in pixel_errors(evidence).items():
        correlation = {name: spearman(values, error) for name, values in uncertainties.items()}
        results.uncertainty_findings += _pixel_findings(kind, correlation, results.seed)
        results.uncertainty[f"spearman_{kind}"] = {
            name: mean_interval(values, seed=results.seed) for name, values in correlation.items()
        }
        results.uncertainty[f"ause_{kind}"] = {
            name: mean_interval(ause(error, values), seed=results.seed)
            for name, values in uncertainties.items()
        }
        curves = uncertainties | {"oracle": error}
        results.uncertainty_curves[f"sparsification_{kind}"] = {
            "removed": list(SPARSIFIED),
            **{n: sparsification_curve(error, v).mean(0).tolist() for n, v in curves.items()},
        }
    _add_calibration(results, evidence)


def pixel_errors(evidence: Evidence) -> dict[str, Tensor]:
    """How wrong each pixel is by the references, (N, HW) in [0, 1].

    ``top``: whether it is among our top 10 %, against the share of the references in which it is.
    ``rank``: distance of its rank from that by the references' mean rank, over the number of
    pixels; most of it lies in the background, whose order means nothing.
    """
    mean = evidence.mean
    rank, target = descending_rank(mean), consensus_rank(evidence.references)
    ours = rank < num_kept(INCLUSION_FRACTION, mean[0].numel())
    return {
        "top": (ours.double() - included(evidence.references)).abs().flatten(1),
        "rank": ((rank - target).abs() / mean[0].numel()).flatten(1),
    }


def consensus_rank(references: Tensor) -> Tensor:
    """Rank pixels by their mean rank in R maps (R, N, H, W): (N, H, W).

    Not by the mean of the maps, which the one of the largest scale would decide.
    """
    ranks = torch.stack([descending_rank(maps) for maps in references])
    return descending_rank(-ranks.double().mean(0))


def included(references: Tensor) -> Tensor:
    """Share of R maps (R, N, H, W) in which a pixel is among the top 10 %: (N, H, W)."""
    k = num_kept(INCLUSION_FRACTION, references[0, 0].numel())
    return hard_topk(references.flatten(2), k).view_as(references).double().mean(0)


def _pixel_findings(kind: str, correlation: Mapping[str, Tensor], seed: int) -> list[Finding]:
    images = len(correlation[STDDEV])
    if images < LEAST_IMAGES:
        return [too_few(f"Per pixel, {_WRONG[kind]}", images)]
    return [_pixel_finding(name, kind, correlation, seed) for name in _IN_WORDS]


def _pixel_finding(name: str, kind: str, correlation: Mapping[str, Tensor], seed: int) -> Finding:
    controls = [other for other in correlation if other.startswith("control")]
    best = max(controls, key=lambda other: float(correlation[other].mean()))
    ours, control = correlation[name], correlation[best]
    return against_control(
        f"Per pixel, {_IN_WORDS[name]} {{}} the best {best}, at telling {_WRONG[kind]}: "
        f"Spearman {ours.mean():.3f} against {control.mean():.3f}",
        difference_interval(ours, control, seed=seed),
        above_chance=bool(mean_interval(ours, seed=seed).low > 0),
    )


def _add_calibration(results: Results, evidence: Evidence) -> None:
    table = reliability_table(evidence.inclusion, included(evidence.references))
    error = statistic_interval(
        lambda images: calibration_error(table[images].sum(0)), len(table), seed=results.seed
    )
    results.uncertainty["ece"] = {UNCERTAINTY: error}
    total = table.sum(0)
    number, predicted, observed = total[total[:, 0] > 0].unbind(1)
    results.uncertainty_curves["reliability"] = {
        "predicted": (predicted / number).tolist(),
        "observed": (observed / number).tolist(),
        "share": (number / number.sum()).tolist(),
    }
