"""Do the maps depend on the image and on the classifier, as they must?"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.results import Finding, Results
from saliency_vae.metrics import (
    descending_rank,
    mask_agreement_matrix,
    mean_interval,
    own_mask_advantage,
    similarity,
)
from saliency_vae.models import Explainer
from saliency_vae.topk import num_kept

FRACTION = 0.1  # of the pixels kept by a mask
ALIKE = 0.5  # Spearman's correlation from which maps resemble each other


def add_own_mask(
    results: Results,
    maps: Mapping[str, Tensor],
    images: Tensor,
    baseline: Tensor,
    classifier: FrozenClassifier,
) -> None:
    """Add ``own_mask``: what an image's own mask keeps of the decision, and others' masks do not.

    Args:
        results: To add to.
        maps: Method to maps of the images, (N, H, W), N >= 2.
        images: In [0, 1], (N, 3, H, W).
        baseline: Images without information, (N, 3, H, W).
        classifier: That decides.
    """
    for name, saliency in maps.items():
        rank = descending_rank(saliency.to(images.device))
        masks = rank < num_kept(FRACTION, rank[0].numel())
        matrix = mask_agreement_matrix(classifier, images, masks, baseline)
        results.values.setdefault("own_mask", {})[name] = own_mask_advantage(matrix).cpu()


@torch.inference_mode()
def compare_with_randomised(
    batches: Iterable[Batch], ours: Explainer, randomised: Explainer, *, seed: int
) -> Finding:
    """Hold our maps against those of an explainer trained for a randomised classifier.

    Args:
        batches: Of images.
        ours: Our explainer.
        randomised: The other; it has learned what can be seen without the classifier's knowledge.
        seed: Of the bootstrap.
    """
    found = [similarity(ours(b["image"]).mean, randomised(b["image"]).mean) for b in batches]
    spearman = mean_interval(torch.cat([alike.spearman.cpu() for alike in found]), seed=seed)
    ssim = float(torch.cat([alike.ssim.cpu() for alike in found]).mean())
    differs = bool(spearman.high < ALIKE)
    return Finding(
        "better" if differs else "worse",
        "Sanity: the maps of an explainer for a randomised classifier "
        f"{'differ from ours, as they must' if differs else 'resemble ours, as they must not'}: "
        f"Spearman {spearman.mean:.3f} [{spearman.low:.3f}, {spearman.high:.3f}], "
        f"SSIM {ssim:.3f} (1 is alike, 0 unrelated).",
    )


def check_randomised(ours: Explainer, randomised: Explainer) -> None:
    """Refuse an explainer of the very classifier that is ours.

    Raises:
        ValueError: If both explain classifiers of the same weights.
    """
    if same_classifier(ours, randomised):
        raise ValueError(
            "Expected randomised=DIR to be an explainer of another classifier than ours. "
            "Found the same."
        )


def same_classifier(first: Explainer, second: Explainer) -> bool:
    """Whether two explainers explain classifiers of the same weights."""
    one, other = (explainer.classifier_identity.sha256 for explainer in (first, second))
    return bool(one == other)
