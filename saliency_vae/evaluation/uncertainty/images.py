"""Is the confidence in an explanation worth anything? Each number on it beside its controls'."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.evaluation.results import Finding, Results
from saliency_vae.evaluation.verdicts import LEAST_IMAGES, against_control, too_few
from saliency_vae.metrics import (
    REJECTED,
    expected_calibration_error,
    failure_auroc,
    selective_curve,
    statistic_interval,
)
from saliency_vae.models import CONFIDENCE_FRACTION, Explainer

CONFIDENCE = "ours, 1 - confidence"
_SPREAD = "ours, disagreement of sampled maps"
_ENTROPY = "control, entropy of the prediction"
_AREA = "control, area of the map"
_VARGRAD = "control, VarGrad"
_LEAST = 5  # failures, and successes: a bootstrap of fewer has too narrow an interval
_WITHHELD = (0.0, 0.1, 0.2, 0.3)  # of the images, where the selective curve is told
_JUDGED = 0.2  # of the images, withheld where it is judged


def gather_images(
    batches: Iterable[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
    vargrad: Method | None = None,
) -> dict[str, Tensor]:
    """Uncertainty of each explanation, by us and by controls.

    Args:
        batches: Of images.
        explainer: Ours, with a confidence network.
        classifier: To explain.
        vargrad: VarGrad, as a further control.

    Returns:
        By name, (N,), higher where less certain, on the CPU.
    """
    gathered: dict[str, list[Tensor]] = {}
    for batch in batches:
        with torch.inference_mode():
            posterior = explainer(batch["image"])
            probabilities = classifier.probabilities(classifier(batch["image"]))
            independent = classifier.output == "sigmoid"
            found = {
                CONFIDENCE: 1 - posterior.confidence,
                _SPREAD: 1 - posterior.map_agreement(CONFIDENCE_FRACTION),
                _ENTROPY: entropy(probabilities, independent=independent),
                _AREA: area(posterior),
            }
        if vargrad is not None:
            found[_VARGRAD] = vargrad(batch, classifier).mean((-2, -1))
        for name, values in found.items():
            gathered.setdefault(name, []).append(values.cpu())
    return {name: torch.cat(values) for name, values in gathered.items()}


def area(posterior: SaliencyPosterior) -> Tensor:
    """Share of the pixels above half of the map's largest mean, (...)."""
    mean = posterior.mean
    return (mean > mean.amax((-2, -1), keepdim=True) / 2).float().mean((-2, -1))


def entropy(probabilities: Tensor, *, independent: bool) -> Tensor:
    """Entropy of predictions (B, classes): (B,), nats; of independent labels, summed over them."""
    spread: Tensor = torch.special.entr(probabilities)
    if independent:
        spread = spread + torch.special.entr(1 - probabilities)
    return spread.sum(1)


def add_images(
    results: Results, uncertainties: Mapping[str, Tensor], failed: Tensor, insertion: Tensor
) -> None:
    """Add how well our confidence finds the images whose explanation fails.

    Args:
        results: To add to.
        uncertainties: By name, (N,), from :func:`gather_images`.
        failed: Whether the view of 5 % of the pixels decides otherwise, (N,) bool.
        insertion: Insertion AUC, (N,).
    """
    results.uncertainty_curves["selective"] = {
        "rejected": list(REJECTED),
        **{name: selective_curve(insertion, u).tolist() for name, u in uncertainties.items()},
    }
    results.uncertainty_findings += [
        *_failures(results, uncertainties, failed),
        _selective(insertion, uncertainties, results.seed),
    ]


def _failures(
    results: Results, uncertainties: Mapping[str, Tensor], failed: Tensor
) -> list[Finding]:
    """Whether our confidence tells which explanations fail; adds the AUROC of each uncertainty."""
    if failed.all() or not failed.any():
        which = "every image" if failed.all() else "no image"
        text = f"Per image: at 5 % kept {which} fails, so there is nothing to predict."
        return [Finding("note", text)]

    def auroc(name: str) -> Callable[[Tensor], Tensor]:
        return lambda images: failure_auroc(uncertainties[name][images], failed[images])

    number, seed = len(failed), results.seed
    found = {name: statistic_interval(auroc(name), number, seed=seed) for name in uncertainties}
    results.uncertainty["auroc"] = found
    best = max(_controls(uncertainties), key=lambda name: float(found[name].mean))
    ours = auroc(CONFIDENCE)
    aurocs = f"AUROC {found[CONFIDENCE].mean:.3f} against {found[best].mean:.3f}"
    failures = int(failed.sum())
    if min(failures, number - failures) < _LEAST:
        compared = Finding(
            "note",
            f"Per image, {failures} of {number} explanations fail at 5 % kept: too few of one kind "
            f"to judge our confidence by ({aurocs} of the best {best}).",
        )
    else:
        compared = against_control(
            f"Per image, our confidence {{}} the best {best}, at telling which explanations fail "
            f"at 5 % kept: {aurocs}",
            statistic_interval(lambda i: ours(i) - auroc(best)(i), number, seed=seed),
            above_chance=bool(found[CONFIDENCE].low > 0.5),
        )
    return [compared, _calibration(1 - uncertainties[CONFIDENCE], failed)]


def _controls(uncertainties: Iterable[str]) -> list[str]:
    return [name for name in uncertainties if name.startswith("control")]


def _calibration(confidence: Tensor, failed: Tensor) -> Finding:
    error = expected_calibration_error(confidence[:, None], (~failed)[:, None], bins=10)
    return Finding(
        "note",
        f"Per image, the mean confidence is {confidence.mean():.3f}; "
        f"{1 - failed.float().mean():.3f} of the explanations keep the decision at 5 % "
        f"(calibration error {error:.3f}, 10 bins).",
    )


def _selective(insertion: Tensor, uncertainties: Mapping[str, Tensor], seed: int) -> Finding:
    """Whether the explanations that our confidence keeps are better than those a control keeps."""
    number = len(insertion)
    if number < LEAST_IMAGES:
        return too_few("Insertion AUC as the least confident are withheld", number)
    everything = torch.arange(number)

    def left(name: str, images: Tensor) -> Tensor:
        return selective_curve(insertion[images], uncertainties[name][images], (_JUDGED,))[0]

    best = max(_controls(uncertainties), key=lambda name: float(left(name, everything)))
    ours = partial(left, CONFIDENCE)
    gain = statistic_interval(lambda i: ours(i) - insertion[i].double().mean(), number, seed=seed)
    means = selective_curve(insertion, uncertainties[CONFIDENCE], _WITHHELD).tolist()
    return against_control(
        f"Insertion AUC is {', '.join(f'{mean:.3f}' for mean in means)} as the least confident 0, "
        f"10, 20 and 30 % of the explanations are withheld; at 20 %, {ours(everything):.3f}, our "
        f"confidence {{}} the best {best}, {left(best, everything):.3f}",
        statistic_interval(lambda i: ours(i) - left(best, i), number, seed=seed),
        above_chance=bool(gain.low > 0),
    )
