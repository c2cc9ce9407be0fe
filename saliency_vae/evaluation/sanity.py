"""Sanity checks: the maps must depend on the image and on the classifier."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.resampling import LEAST_IMAGES, Resampling
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.verdicts import Verdict, too_few
from saliency_vae.metrics import (
    Imputation,
    descending_rank,
    mask_agreement_matrix,
    own_mask_advantage,
    similarity,
)
from saliency_vae.models import Explainer
from saliency_vae.topk import num_kept

FRACTION = 0.1  # share of the pixels that a mask keeps
ALIKE = 0.5  # Spearman correlation from which maps count as similar
_MAPS = "the maps of an explainer for a randomised classifier"


def with_own_mask(
    scores: Scores,
    maps: Mapping[str, Tensor],
    images: Tensor,
    baseline: Tensor | Imputation,
    classifier: FrozenClassifier,
) -> Scores:
    """Add ``own_mask``: how much better an image's own mask keeps its decision than others' masks.

    Args:
        scores: Scores of the methods so far.
        maps: Method to its maps of the images, (N, H, W), N >= 2.
        images: Images in [0, 1], (N, 3, H, W).
        baseline: Their baseline images, (N, 3, H, W), or an imputation.
        classifier: Classifier to explain.
    """
    own: dict[str, Tensor] = {}
    for name, saliency in maps.items():
        rank = descending_rank(saliency.to(images.device))
        masks = rank < num_kept(FRACTION, rank[0].numel())
        matrix = mask_agreement_matrix(classifier, images, masks, baseline)
        own[name] = own_mask_advantage(matrix).cpu()
    return scores.extended({"own_mask": own})


@torch.no_grad()
def compare_with_randomised(
    batches: Iterable[Batch], explainer: Explainer, randomised: Explainer, *, resampling: Resampling
) -> Verdict:
    """Compare an explainer's maps with those of an explainer of a randomised classifier.

    The second one can have learned only from the images, not from a trained classifier.

    Args:
        batches: Batches of images.
        explainer: Explainer to evaluate.
        randomised: Explainer of a randomised classifier.
        resampling: How images are resampled for intervals.
    """
    found = [similarity(explainer(b["image"]).mean, randomised(b["image"]).mean) for b in batches]
    number = resampling.independent(sum(len(alike.ssim) for alike in found))
    if number < LEAST_IMAGES:
        return too_few(f"Sanity check: {_MAPS}", number)
    spearman = resampling.mean(torch.cat([alike.spearman.cpu() for alike in found]))
    ssim = float(torch.cat([alike.ssim.cpu() for alike in found]).mean())
    differs = bool(spearman.high < ALIKE)
    how = (
        "differ from this explainer's, as they must"
        if differs
        else "resemble this explainer's, as they must not"
    )
    return Verdict(
        "better" if differs else "worse",
        f"Sanity check: {_MAPS} {how}: "
        f"Spearman {spearman.mean:.3f} [{spearman.low:.3f}, {spearman.high:.3f}], "
        f"SSIM {ssim:.3f} (1 is alike, 0 unrelated).",
    )


def check_randomised(explainer: Explainer, randomised: Explainer) -> None:
    """Reject an explainer of the same classifier that the evaluated explainer explains.

    Raises:
        ValueError: If both explain classifiers with the same weights.
    """
    if same_classifier(explainer, randomised):
        raise ValueError(
            "Expected randomised=DIR to be an explainer of another classifier than the evaluated "
            "explainer. Found one of the same classifier."
        )


def same_classifier(first: Explainer, second: Explainer) -> bool:
    """Whether two explainers explain classifiers with the same weights."""
    one, other = (explainer.classifier_identity.sha256 for explainer in (first, second))
    return bool(one == other)


def note_other_classifier(explainer: Explainer, classifier: FrozenClassifier) -> list[Verdict]:
    """Note if an explainer was trained for another classifier than the one it explains."""
    if explainer.is_universal or explainer.was_trained_for(classifier.identity()):
        return []
    expected = explainer.classifier_identity
    return [Verdict("note", f"Forced: the explainer was trained for {expected}.")]
