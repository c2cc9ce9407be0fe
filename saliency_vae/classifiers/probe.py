"""A first look at what a classifier makes of images, before anything is trained for it."""

import torch
from torch import Tensor

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.runtime.memory import is_out_of_memory
from saliency_vae.runtime.text import described


def probe(classifier: FrozenClassifier, images: Tensor) -> int:
    """Refuse a classifier that cannot be explained; count the classes of one that can.

    It is shown the images and their negatives.

    Args:
        classifier: On the device of the images.
        images: A few, in [0, 1], (B, 3, H, W).

    Returns:
        Number of its classes, or labels.

    Raises:
        ValueError: If it does not take the images, or its output is not (B, classes), not finite,
            the same for all images, probabilities, or passes no gradient to the image.
    """
    shown = torch.cat([images, 1 - images]).requires_grad_()
    try:
        with torch.enable_grad():
            logits = classifier.eager(shown)
    except Exception as error:  # the network's own, of any kind
        if is_out_of_memory(error):
            raise
        size = f"{images.shape[-2]}x{images.shape[-1]}"
        found = f"that it takes none of {size} ({described(error)})"
        raise _refusal(classifier, len(shown), found) from error
    if not isinstance(logits, Tensor):
        raise _refusal(classifier, len(shown), type(logits).__name__)
    classes = 2 if classifier.output == "softmax" else 1
    if logits.ndim != 2 or len(logits) != len(shown) or logits.shape[1] < classes:
        raise _refusal(classifier, len(shown), f"shape {tuple(logits.shape)}")
    logits = logits.float()
    broken = (~logits.detach().isfinite()).sum().item()
    if broken:
        raise _refusal(classifier, len(shown), f"{broken} of {logits.numel()} not finite")
    if torch.allclose(logits, logits[:1].expand_as(logits), rtol=1e-5):
        raise _refusal(classifier, len(shown), "the same for all images")
    if classifier.output == "softmax" and _are_probabilities(logits.detach()):
        raise _refusal(classifier, len(shown), "probabilities, which sum to 1 (softmax within it?)")
    if not logits.requires_grad:
        raise _refusal(classifier, len(shown), "no gradient (no_grad or detach within it?)")
    return logits.shape[1]


def _are_probabilities(logits: Tensor) -> bool:
    sums = logits.sum(1)
    return bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)


def _refusal(classifier: FrozenClassifier, images: int, found: str) -> ValueError:
    least = "classes >= 2" if classifier.output == "softmax" else "labels"
    return ValueError(
        f"Expected classifier {classifier.name} to map {images} different images to finite, "
        f"different logits ({images}, {least}). Found {found}. Check classifier.module, "
        "classifier.weights, classifier.mean, classifier.std and classifier.output."
    )
