"""Checks of a posterior that need only the classifier."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.uncertainty.explained_batch import BASELINES, ExplainedBatch
from saliency_vae.evaluation.uncertainty.predictive import (
    SAMPLES,
    PredictiveCheck,
    check_predictions,
)
from saliency_vae.evaluation.uncertainty.predictive_report import assess_predictions
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.swap_report import assess_swaps
from saliency_vae.evaluation.uncertainty.swaps import Swaps, swap_patches

CONTROLS = ("gradient", "vargrad")  # methods whose small values are controls of the swap test


class PosteriorChecks(TypedDict):
    """Results over each baseline image, by its name; None where nothing could be checked."""

    predictions: dict[str, PredictiveCheck | None]
    swaps: dict[str, Swaps | None]


def check_posterior(
    explained: Sequence[ExplainedBatch],
    classifier: FrozenClassifier,
    methods: Mapping[str, Method],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> PosteriorChecks:
    """Check a posterior over a blur, and over in-painting, which no training uses.

    Args:
        explained: Images with their posteriors.
        classifier: Classifier to explain.
        methods: Methods by name, of which ``gradient`` and ``vargrad`` are controls.
        samples: Number of maps per image, for sampled maps and for each control.
        seed: Seed of all random draws.
    """
    controls = [
        {
            f"small {name}": -methods[name]({"image": batch.images}, classifier)
            for name in CONTROLS
            if name in methods
        }
        for batch in explained
    ]
    return {
        "predictions": {
            baseline: check_predictions(explained, classifier, baseline, samples=samples, seed=seed)
            for baseline in BASELINES
        },
        "swaps": {
            baseline: swap_patches(explained, classifier, baseline, controls, seed=seed)
            for baseline in BASELINES
        },
    }


def assess_posterior(found: PosteriorChecks, *, resampling: Resampling) -> UncertaintyReport:
    """Report the results of :func:`check_posterior`.

    Args:
        found: The results.
        resampling: How images are resampled for intervals.
    """
    report = UncertaintyReport()
    for baseline, check in found["predictions"].items():
        report += assess_predictions(check, baseline, resampling=resampling)
    for baseline, swaps in found["swaps"].items():
        report += assess_swaps(swaps, baseline, resampling=resampling)
        missing = [name for name in CONTROLS if swaps and f"small {name}" not in report.roles]
    if missing:
        left_out = f"Swap test, control of {' and '.join(missing)}: no such method was compared."
        report += UncertaintyReport(left_out=(left_out,))
    return report
