"""Posterior predictive checks: do maps drawn from the posterior keep the decision too?

Sampled maps are compared with controls of the same total variance: unscaled, and scaled so that
both change the same number of pixels of the mean map's kept set. A posterior that knows which
pixels hardly matter to the classifier loses fewer decisions than a control.
"""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.evaluation.uncertainty.changed_pixels import (
    changed_share,
    scaled_to_change,
)
from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.evaluation.uncertainty.deviations import SAMPLED, deviations
from saliency_vae.evaluation.uncertainty.explained_batch import ExplainedBatch
from saliency_vae.evaluation.uncertainty.kept_fraction import kept_fraction
from saliency_vae.topk import hard_topk, top_pixels

SAMPLES = 4  # maps per image
SHARES = (0.1, 0.25, 0.5)  # shares of the kept set that scaled maps change
UNSCALED = "unscaled"


class SeenMaps(TypedDict):
    """The classifier's outputs on the kept views of maps, (N, maps) each.

    Attributes:
        kept: 1 where the decision stays, else 0.
        probability: Probability of the decision for the whole image.
        changed: Share of the mean map's kept set that each map replaces.
    """

    kept: Tensor
    probability: Tensor
    changed: Tensor


class PredictiveCheck(TypedDict):
    """Results for the mean maps, sampled maps and controls over one baseline.

    Attributes:
        fraction: Share of the pixels that the views keep.
        mean: Results for the mean of each image's posterior, one map.
        drawn: Condition, ``unscaled`` or the changed share of the kept set in per cent, then name
            of sampled maps or a control, to their results.
        necessity: Drop in the probability of the decision when the kept set of each sampled map, as
            drawn, is replaced, (N, maps).
    """

    fraction: float
    mean: SeenMaps
    drawn: dict[str, dict[str, SeenMaps]]
    necessity: Tensor


def condition(share: float) -> str:
    """Name of the condition in which maps change a share of the kept set: its per cent."""
    return str(round(100 * share))


CONDITIONS = (UNSCALED, *map(condition, SHARES))


@torch.no_grad()
def check_predictions(
    explained: Sequence[ExplainedBatch],
    classifier: FrozenClassifier,
    baseline: str,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> PredictiveCheck | None:
    """Classify the kept views of sampled maps and their controls.

    Args:
        explained: Images with their posteriors.
        classifier: Classifier to explain.
        baseline: Name of the baseline image.
        samples: Number of maps per image, for sampled maps and for each control.
        seed: Seed of their noise.

    Returns:
        The results, on the CPU; None if the mean maps keep fewer than half of the decisions at all
        shares of the pixels.
    """
    views = [batch.views(classifier, baseline) for batch in explained]
    fraction = kept_fraction(views, [batch.posterior.mean for batch in explained])
    if fraction is None:
        return None
    generator = torch.Generator().manual_seed(seed)
    of_mean, drawn = list[SeenMaps](), list[dict[str, dict[str, SeenMaps]]]()
    necessity = list[Tensor]()
    for batch, seen in zip(explained, views, strict=True):
        kept = top_pixels(batch.posterior.mean, fraction)[:, None]
        of_mean.append(_see(seen, kept, kept))
        masks = _drawn_masks(batch, kept[:, 0], samples, generator)
        drawn.append(
            {
                scaling: {name: _see(seen, mask, kept) for name, mask in by_name.items()}
                for scaling, by_name in masks.items()
            }
        )
        necessity.append(seen.necessity(masks[UNSCALED][SAMPLED]))
    return {
        "fraction": fraction,
        "mean": _joined(of_mean),
        "drawn": {
            scaling: {name: _joined([one[scaling][name] for one in drawn]) for name in by_name}
            for scaling, by_name in drawn[0].items()
        },
        "necessity": torch.cat(necessity),
    }


def _drawn_masks(
    batch: ExplainedBatch, kept: Tensor, samples: int, generator: torch.Generator
) -> dict[str, dict[str, Tensor]]:
    """Kept sets of sampled maps and controls by condition and name, (B, samples, H, W) bool."""
    masks: dict[str, list[Tensor]] = {scaling: [] for scaling in CONDITIONS}
    for alone, shown in zip(batch.posterior.split(), kept, strict=True):
        by_name = deviations(alone, batch.prior, shown, samples=samples, generator=generator)
        moved, mean = torch.cat(list(by_name.values())), alone.mean
        masks[UNSCALED].append(
            hard_topk((mean + moved).flatten(1), int(shown.sum())).view_as(moved)
        )
        for share in SHARES:
            masks[condition(share)].append(scaled_to_change(mean, shown, moved, share))
    return {
        scaling: dict(
            zip(by_name, torch.split(torch.stack(of_images), samples, dim=1), strict=True)
        )
        for scaling, of_images in masks.items()
    }


def _see(views: DecisionViews, masks: Tensor, kept: Tensor) -> SeenMaps:
    answers = views.answers(masks)
    return {
        "kept": answers.kept,
        "probability": answers.probability,
        "changed": changed_share(masks, kept).cpu(),
    }


def _joined(parts: Sequence[SeenMaps]) -> SeenMaps:
    """Join the results of several batches."""
    return {
        "kept": torch.cat([part["kept"] for part in parts]),
        "probability": torch.cat([part["probability"] for part in parts]),
        "changed": torch.cat([part["changed"] for part in parts]),
    }
