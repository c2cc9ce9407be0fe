"""Whether the confidence in explanations, or their sufficiency, predicts which of them fail."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.evaluation.resampling import LEAST_IMAGES, Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.rivals import VARGRAD
from saliency_vae.evaluation.verdicts import Verdict, judge_uncertainty, too_few
from saliency_vae.evaluation.wording import baseline_title
from saliency_vae.metrics import (
    REJECTED,
    descending_rank,
    expected_calibration_error,
    failure_auroc,
    selective_curve,
)
from saliency_vae.models import CONFIDENCE_FRACTION, Explainer
from saliency_vae.perturbations import blurred
from saliency_vae.topk import top_pixels
from saliency_vae.visualization import FRACTIONS

UNCONFIDENCE = "1 - confidence"
SUFFICIENCY = "1 - mean sufficiency"
DISAGREEMENT = "disagreement of sampled maps"
ENTROPY = "entropy of the prediction"
AREA = "area of the map"
DEEP = "deep uncertainty"
ROLES = {
    UNCONFIDENCE: Role.EXPLAINER,
    SUFFICIENCY: Role.EXPLAINER,
    DISAGREEMENT: Role.EXPLAINER,
    ENTROPY: Role.CONTROL,
    AREA: Role.CONTROL,
    VARGRAD: Role.CONTROL,
    DEEP: Role.RIVAL,
}
_KEPT = "when only 5 % of the pixels are kept"
_LEAST = 5  # failures, and successes: with fewer, the bootstrap interval is too narrow
_WITHHELD = (0.0, 0.1, 0.2, 0.3)  # withheld shares of the images whose insertion is reported
_JUDGED = 0.2  # withheld share of the images at which the insertion is judged


def gather_uncertainties(
    batches: Iterable[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
    vargrad: Method | None = None,
    ensemble: Sequence[Method] = (),
) -> dict[str, Tensor]:
    """Measure the uncertainty of each explanation, by the explainer, controls and a rival.

    Where the explainer has no confidence network, the sufficiency is measured instead, at the kept
    fractions :data:`FRACTIONS`.

    Args:
        batches: Batches of images.
        explainer: Explainer to evaluate, with a confidence network or with its classifier.
        classifier: Classifier to explain.
        vargrad: VarGrad, as a further control.
        ensemble: Explainers of other seeds; deep uncertainty is measured if there are any.

    Returns:
        Uncertainty to its values, (N,), higher where less certain, on the CPU.
    """
    gathered: dict[str, list[Tensor]] = {}
    for batch in batches:
        with torch.no_grad():
            posterior = explainer(batch["image"])
            logits = classifier(batch["image"])
            probabilities = classifier.probabilities(logits)
            independent = classifier.output == "sigmoid"
            if explainer.confidence is None:
                sufficiency = mean_sufficiency(classifier, batch["image"], logits, posterior.mean)
                own, certain = SUFFICIENCY, sufficiency
            else:
                own, certain = UNCONFIDENCE, posterior.confidence
            found = {
                own: 1 - certain,
                DISAGREEMENT: 1 - posterior.map_agreement(CONFIDENCE_FRACTION),
                ENTROPY: entropy(probabilities, independent=independent),
                AREA: area(posterior),
            }
        if vargrad is not None:
            found[VARGRAD] = vargrad(batch, classifier).mean((-2, -1))
        if ensemble:
            others = [other(batch, classifier) for other in ensemble]
            found[DEEP] = deep_uncertainty(torch.stack([posterior.mean, *others]))
        for name, values in found.items():
            gathered.setdefault(name, []).append(values.cpu())
    return {name: torch.cat(values) for name, values in gathered.items()}


def mean_sufficiency(
    classifier: FrozenClassifier, images: Tensor, logits: Tensor, maps: Tensor
) -> Tensor:
    """Probability of the decision on kept views over a blur, averaged over the kept fractions.

    Args:
        classifier: Classifier to explain.
        images: Images in [0, 1], (B, 3, H, W).
        logits: Logits of the images, (B, classes).
        maps: Saliency maps, (B, H, W).

    Returns:
        Means over :data:`FRACTIONS`, (B,), on the CPU.
    """
    masks = torch.stack([top_pixels(maps, fraction) for fraction in FRACTIONS], dim=1)
    views = DecisionViews(classifier, images, classifier.decide(logits), blurred(images))
    return views.answers(masks).probability.mean(1)


def area(posterior: SaliencyPosterior) -> Tensor:
    """Share of the pixels whose mean exceeds half of the largest one, (...)."""
    mean = posterior.mean
    return (mean > mean.amax((-2, -1), keepdim=True) / 2).float().mean((-2, -1))


def deep_uncertainty(maps: Tensor) -> Tensor:
    """Disagreement of an ensemble of explainers, after Selective Explanations (Paes et al. 2024).

    Args:
        maps: Maps of the explainers, (explainers, B, H, W), whose scales may differ.

    Returns:
        Variance over the explainers of a pixel's rank, as a share of the pixels, mean over the
        pixels, (B,).

    Example:
        >>> maps = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 9.0]]]])  # ranks 0, 1/2 and 1/2, 0
        >>> deep_uncertainty(maps)
        tensor([0.0625])
    """
    ranks = torch.stack([descending_rank(of_one) for of_one in maps]) / maps[0, 0].numel()
    return ranks.var(0, correction=0).mean((-2, -1))


def entropy(probabilities: Tensor, *, independent: bool) -> Tensor:
    """Entropy of predictions (B, classes), nats: (B,).

    Args:
        probabilities: Probability of each class, (B, classes).
        independent: Whether the classes are independent labels, whose entropies are summed.

    Example:
        >>> entropy(torch.tensor([[0.5, 0.5]]), independent=False)
        tensor([0.6931])
    """
    spread: Tensor = torch.special.entr(probabilities)
    if independent:
        spread = spread + torch.special.entr(1 - probabilities)
    return spread.sum(1)


def assess_images(
    uncertainties: Mapping[str, Tensor],
    failed: Tensor,
    insertion: Tensor,
    *,
    resampling: Resampling,
) -> UncertaintyReport:
    """Report how well the explainer's confidence predicts which explanations fail.

    Args:
        uncertainties: Uncertainty to its values, (N,), from :func:`gather_uncertainties`.
        failed: Whether the decision changes when only 5 % of the pixels are kept, (N,) bool.
        insertion: Insertion AUC, (N,).
        resampling: How images are resampled for intervals.
    """
    failures = _assess_failures(uncertainties, failed, resampling)
    return failures + assess_selection(uncertainties, insertion, resampling=resampling)


def assess_selection(
    uncertainties: Mapping[str, Tensor],
    insertion: Tensor,
    *,
    resampling: Resampling,
    baseline: str = "",
) -> UncertaintyReport:
    """Report whether withholding uncertain explanations leaves better ones.

    Args:
        uncertainties: Uncertainty to its values, (N,), from :func:`gather_uncertainties`.
        insertion: Insertion AUC, (N,).
        resampling: How images are resampled for intervals.
        baseline: Name of the baseline image of the insertion, for the text; empty to leave it out.
    """
    curve = {
        "rejected": list(REJECTED),
        **{name: selective_curve(insertion, u).tolist() for name, u in uncertainties.items()},
    }
    return UncertaintyReport(
        (_judge_selection(insertion, uncertainties, resampling, baseline),),
        curves={"selective": curve},
        roles={name: ROLES[name] for name in uncertainties},
    )


def _assess_failures(
    uncertainties: Mapping[str, Tensor], failed: Tensor, resampling: Resampling
) -> UncertaintyReport:
    """Report how well each uncertainty predicts which explanations fail."""
    if failed.all() or not failed.any():
        which = "every image" if failed.all() else "no image"
        text = f"Per image, the decision changes in {which} {_KEPT}: there is nothing to predict."
        return UncertaintyReport((Verdict("note", text),))

    number, failures = len(failed), int(failed.sum())
    aurocs = {name: _auroc(values, failed) for name, values in uncertainties.items()}
    found = {name: resampling.statistic(auroc, number) for name, auroc in aurocs.items()}
    best = max(_controls(uncertainties), key=lambda name: float(found[name].mean))

    def against(name: str) -> str:
        return f"AUROC {found[UNCONFIDENCE].mean:.3f} against {found[name].mean:.3f}"

    def judge(name: str) -> Verdict:
        mine, other = aurocs[UNCONFIDENCE], aurocs[name]
        which = f"the best control, {name}," if name == best else name
        return judge_uncertainty(
            f"Per image, this explainer's confidence {{}} {which} at predicting whether the "
            f"decision changes {_KEPT}: {against(name)}",
            resampling.statistic(lambda i: mine(i) - other(i), number),
            above_chance=bool(found[UNCONFIDENCE].low > 0.5),
        )

    if (apart := resampling.independent(number)) < LEAST_IMAGES:
        compared = [too_few("Confidence, at predicting failures per image", apart)]
    elif min(failures, number - failures) < _LEAST:
        text = (
            f"Per image, the decision changes in {failures} of {number} images {_KEPT}: one of the "
            f"two outcomes is too rare to judge this explainer's confidence by ({against(best)} of "
            f"the best control, {best})."
        )
        compared = [Verdict("note", text)]
    else:
        compared = [judge(name) for name in (best, DEEP) if name in uncertainties]
    calibration = _note_calibration(1 - uncertainties[UNCONFIDENCE], failed)
    return UncertaintyReport((*compared, calibration), {"auroc": found})


def _auroc(uncertainty: Tensor, failed: Tensor) -> Callable[[Tensor], Tensor]:
    """AUROC of failure as a function of the indices of images."""
    return lambda images: failure_auroc(uncertainty[images], failed[images])


def _controls(uncertainties: Iterable[str]) -> list[str]:
    return [name for name in uncertainties if ROLES[name] is Role.CONTROL]


def _note_calibration(confidence: Tensor, failed: Tensor) -> Verdict:
    error = expected_calibration_error(confidence[:, None], (~failed)[:, None], bins=10)
    return Verdict(
        "note",
        f"Per image, the mean confidence is {confidence.mean():.3f}; "
        f"{1 - failed.float().mean():.3f} of the explanations keep the decision at 5 % of the "
        f"pixels (calibration error {error:.3f}, 10 bins).",
    )


def _judge_selection(
    insertion: Tensor, uncertainties: Mapping[str, Tensor], resampling: Resampling, baseline: str
) -> Verdict:
    """Judge whether the explanations kept by confidence are better than those kept by a control."""
    number = len(insertion)
    own, least, name = UNCONFIDENCE, "confident", "this explainer's confidence"
    if SUFFICIENCY in uncertainties:
        own, least, name = SUFFICIENCY, "sufficient", "the measured sufficiency"
    if (apart := resampling.independent(number)) < LEAST_IMAGES:
        return too_few(f"Insertion AUC with the least {least} explanations withheld", apart)
    everything = torch.arange(number)

    def left(name: str, images: Tensor) -> Tensor:
        return selective_curve(insertion[images], uncertainties[name][images], (_JUDGED,))[0]

    best = max(_controls(uncertainties), key=lambda name: float(left(name, everything)))
    mine = partial(left, own)
    gain = resampling.statistic(lambda i: mine(i) - insertion[i].double().mean(), number)
    means = selective_curve(insertion, uncertainties[own], _WITHHELD).tolist()
    over = f" over {baseline_title(baseline)}" if baseline else ""
    return judge_uncertainty(
        f"With the least {least} 0, 10, 20 and 30 % of the explanations withheld, the insertion "
        f"AUC{over} of the others is {', '.join(f'{mean:.3f}' for mean in means)}; at 20 %, {name} "
        f"{{}} the best control, {best}: {mine(everything):.3f} against "
        f"{left(best, everything):.3f}",
        resampling.statistic(lambda i: mine(i) - left(best, i), number),
        above_chance=bool(gain.low > 0),
    )
