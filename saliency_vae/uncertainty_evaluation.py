"""Is the uncertainty worth anything? Each number on it beside its control's."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.datamodule import Batch
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.distributions.posterior import CONFIDENCE_FRACTION
from saliency_vae.explainer import Explainer
from saliency_vae.findings import in_words, verdict
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
from saliency_vae.refinement import explain_without_training
from saliency_vae.results import Finding, Results, Row, Verdict
from saliency_vae.topk import hard_topk, kept

OURS = "ours, P(1-P)"
STDDEV = "raw posterior stddev"
CONTROL = "control, distance to the threshold"
_CONFIDENCE = "ours, 1 - confidence"
_ENTROPY = "control, classifier's entropy"
_RESAMPLES = 500
_WORDS: dict[Verdict, str] = {
    "better": "beats",
    "level": "cannot be told from",
    "worse": "is beaten by",
}


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
            prior=self.explainer.prior(images),
            family=self.explainer.posterior,
            objective=self.objective,
            seed=self.seed,
        ).posterior.mean
        return mean


@dataclass(frozen=True)
class Evidence:
    """What per-pixel uncertainty is judged by, on the CPU.

    Attributes:
        uncertainties: By name, (N, H, W), higher where less certain: OURS, STDDEV and CONTROL at
            least.
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
            uncertainties["VarGrad"] = vargrad(batch, classifier)
        gathered.append(
            Evidence(
                {name: values.cpu() for name, values in uncertainties.items()},
                posterior.mean.cpu(),
                posterior.inclusion_probability(CONFIDENCE_FRACTION).cpu(),
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
    """Uncertainty of each pixel's membership of the top 10 %: ours, its control, raw stddev.

    Args:
        posterior: Of batch shape (B,).

    Returns:
        By name, (B, H, W), higher where less certain.
    """
    probability = posterior.inclusion_probability(CONFIDENCE_FRACTION)
    mean = posterior.mean
    k = kept(CONFIDENCE_FRACTION, mean[0].numel())
    border = mean.flatten(1).topk(k).values[:, -1, None, None]
    return {
        OURS: probability * (1 - probability),
        STDDEV: posterior.stddev,
        CONTROL: -(mean - border).abs(),
    }


def add_pixels(results: Results, evidence: Evidence) -> None:
    """Add how well uncertainty finds the pixels whose rank is wrong, and how calibrated it is."""
    seed, pixels = results.seed, evidence.mean[0].numel()
    target = descending_rank(evidence.references.mean(0))
    error = ((descending_rank(evidence.mean) - target).abs() / pixels).flatten(1)
    flat = {name: values.flatten(1) for name, values in evidence.uncertainties.items()}
    correlation = {name: spearman(values, error) for name, values in flat.items()}
    for name in (OURS, STDDEV):
        results.uncertainty_findings.append(_pixel_finding(name, correlation, seed))
    results.uncertainty += [
        Row(
            f"Spearman with the rank error: {name}",
            mean_interval(values, seed=seed),
            "whether the uncertain pixels are those whose rank is far from the reference's; "
            "1 is perfect, 0 chance",
            name == OURS,
        )
        for name, values in correlation.items()
    ]
    results.uncertainty += [
        Row(
            f"AUSE: {name}",
            mean_interval(ause(error, values), seed=seed),
            "area between the sparsification curve and the oracle's; 0 is perfect",
            name == OURS,
        )
        for name, values in flat.items()
    ]
    results.uncertainty_curves["sparsification"] = {
        "removed": list(SPARSIFIED),
        **{n: sparsification_curve(error, v).mean(0).tolist() for n, v in flat.items()},
        "oracle": sparsification_curve(error, error).mean(0).tolist(),
    }
    _add_calibration(results, evidence)


def add_images(
    results: Results, confidence: Tensor, entropies: Tensor, failed: Tensor, insertion: Tensor
) -> None:
    """Add how well confidence finds the images whose explanation fails.

    Args:
        results: To add to.
        confidence: Ours, (N,).
        entropies: Of the classifier's prediction, (N,), the control.
        failed: Whether the view of 5 % of the pixels decides otherwise, (N,) bool.
        insertion: Insertion AUC, (N,).
    """
    scores = {_CONFIDENCE: 1 - confidence, _ENTROPY: entropies}
    results.uncertainty_curves["selective"] = {
        "rejected": list(REJECTED),
        **{name: selective_curve(insertion, score).tolist() for name, score in scores.items()},
    }
    if failed.all() or not failed.any():
        which = "every image" if failed.all() else "no image"
        results.uncertainty_findings.append(
            Finding(
                "note", f"Per image: at 5 % kept {which} fails, so there is nothing to predict."
            )
        )
        return

    def auroc(name: str) -> Callable[[Tensor], Tensor]:
        return lambda images: failure_auroc(scores[name][images], failed[images])

    found = {name: bootstrap(auroc(name), len(failed), seed=results.seed) for name in scores}
    results.uncertainty += [
        Row(
            f"AUROC of failure at 5 %: {name}",
            interval,
            "whether the uncertain images are those that decide otherwise when 5 % of the pixels "
            "are kept; 1 is perfect, 0.5 chance",
            name == _CONFIDENCE,
        )
        for name, interval in found.items()
    ]
    difference = bootstrap(
        lambda images: auroc(_CONFIDENCE)(images) - auroc(_ENTROPY)(images),
        len(failed),
        seed=results.seed,
    )
    judged = verdict(difference)
    results.uncertainty_findings.append(
        Finding(
            judged,
            f"Per image, our confidence {_WORDS[judged]} its control, the entropy of the "
            "classifier's prediction, at telling which explanations fail at 5 % kept: AUROC "
            f"{found[_CONFIDENCE].mean:.3f} against {found[_ENTROPY].mean:.3f} "
            f"({in_words(difference)}).",
        )
    )


@torch.inference_mode()
def gather_images(
    batches: Iterable[Batch], explainer: Explainer, classifier: FrozenClassifier
) -> tuple[Tensor, Tensor]:
    """Our confidence and the entropy of the classifier's prediction, (N,) each, on the CPU."""
    confidence, entropies = [], []
    for batch in batches:
        confidence.append(explainer(batch["image"]).confidence.cpu())
        probabilities = classifier.probabilities(classifier(batch["image"]))
        entropies.append(entropy(probabilities, independent=classifier.output == "sigmoid").cpu())
    return torch.cat(confidence), torch.cat(entropies)


def entropy(probabilities: Tensor, *, independent: bool) -> Tensor:
    """Entropy of predictions (B, classes): (B,), nats; of independent labels, summed over them."""
    spread: Tensor = torch.special.entr(probabilities)
    if independent:
        spread = spread + torch.special.entr(1 - probabilities)
    return spread.sum(1)


def bootstrap(statistic: Callable[[Tensor], Tensor], number: int, *, seed: int) -> Interval:
    """Interval of any statistic of resampled images.

    Args:
        statistic: Maps indices of images, (number,), to a scalar; draws for which it is NaN are
            left out.
        number: Of images.
        seed: Of the resamples.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = [
        statistic(torch.randint(number, (number,), generator=generator)) for _ in range(_RESAMPLES)
    ]
    values = torch.stack(draws).double()
    tails = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = values[~values.isnan()].quantile(tails)
    return Interval(statistic(torch.arange(number)).double(), low, high)


def _pixel_finding(name: str, correlation: Mapping[str, Tensor], seed: int) -> Finding:
    difference = difference_interval(correlation[name], correlation[CONTROL], seed=seed)
    judged = verdict(difference)
    what = "our uncertainty P(1-P)" if name == OURS else "the raw posterior stddev"
    return Finding(
        judged,
        f"Per pixel, {what} {_WORDS[judged]} its control, the distance to the top-10 % threshold, "
        f"at telling where the map is wrong: Spearman {correlation[name].mean():.3f} against "
        f"{correlation[CONTROL].mean():.3f} ({in_words(difference)}).",
    )


def _add_calibration(results: Results, evidence: Evidence) -> None:
    references = evidence.references
    k = kept(CONFIDENCE_FRACTION, evidence.mean[0].numel())
    included = hard_topk(references.flatten(2), k).view_as(references).double().mean(0)
    table = reliability_table(evidence.inclusion, included)
    error = bootstrap(
        lambda images: calibration_error(table[images].sum(0)), len(table), seed=results.seed
    )
    runs = f"{len(references)} independent run" + ("s" if len(references) > 1 else "")
    results.uncertainty.append(
        Row("ECE of the inclusion probability", error, f"against {runs}; 0 is perfect", True)
    )
    total = table.sum(0)
    number, predicted, observed = total[total[:, 0] > 0].unbind(1)
    results.uncertainty_curves["reliability"] = {
        "predicted": (predicted / number).tolist(),
        "observed": (observed / number).tolist(),
        "share": (number / number.sum()).tolist(),
    }
