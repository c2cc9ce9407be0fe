"""Checks of a classifier before an explainer is trained for it."""

import torch
from torch import Tensor

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.runtime.memory import is_out_of_memory
from saliency_vae.runtime.text import described

_WHICH: dict[Output, str] = {"softmax": "sum to 1", "sigmoid": "lie in [0, 1]"}
_FEWEST = 16  # this many logits of labels hardly all lie in [0, 1] by chance


def check_frozen(classifier: object) -> None:
    """Refuse anything but a frozen classifier, such as a plain network.

    Raises:
        ValueError: If it is not a :class:`FrozenClassifier`.
    """
    if not isinstance(classifier, FrozenClassifier):
        raise ValueError(
            f"Expected a FrozenClassifier. Found {type(classifier).__name__}: "
            "FrozenClassifier(network, mean=MEAN, std=STD, categories=NAMES) wraps a network that "
            "takes images normalised by mean and std."
        )


def check_classifier(classifier: FrozenClassifier, images: Tensor) -> int:
    """Refuse a classifier that cannot be explained, and count the classes of one that can.

    The classifier is applied to the images and their negatives.

    Args:
        classifier: Classifier to check, on the device of the images.
        images: A few images in [0, 1], (B, 3, H, W).

    Returns:
        Number of classes or labels.

    Raises:
        ValueError: If the classifier fails on the images, or its output is not of shape (B,
            classes), is not finite, is the same for all images, consists of probabilities, or has
            no gradient to the images.
    """
    inputs = torch.cat([images, 1 - images]).requires_grad_()
    try:
        with torch.enable_grad():
            logits = classifier.forward_uncompiled(inputs)
    except Exception as error:  # the network may raise any error
        if is_out_of_memory(error):
            raise
        size = f"{images.shape[-2]}x{images.shape[-1]}"
        found = f"an error for images of {size} ({described(error)})"
        raise _refusal(classifier, len(inputs), found) from error
    if not isinstance(logits, Tensor):
        raise _refusal(classifier, len(inputs), type(logits).__name__)
    if logits.layout != torch.strided or logits.is_complex():
        raise _refusal(classifier, len(inputs), f"{logits.layout} of {logits.dtype}")
    fault = _fault(logits.float(), len(inputs), classifier)
    if fault is not None:
        raise _refusal(classifier, len(inputs), fault)
    return logits.shape[1]


def check_logits(logits: Tensor, classifier: FrozenClassifier) -> bool:
    """Refuse outputs that are not usable logits, such as probabilities.

    Args:
        logits: Output of the classifier for some images, (B, classes).
        classifier: The classifier.

    Returns:
        Whether the outputs are certainly logits. Fewer than 16 values for labels that all lie in
        [0, 1] may be probabilities.

    Raises:
        ValueError: If they are probabilities (softmax: none is negative and they sum to 1 for each
            image; labels: at least 16 values, all in [0, 1]), if no image has finite logits, or if
            the classifier has more or fewer category names than classes.
    """
    classifier.check_categories(logits.shape[1])
    finite = logits.isfinite().all(1)
    if not finite.any():  # some images may be at fault, such as constant ones (division by 0)
        raise ValueError(
            f"Expected classifier {classifier.name} to return finite logits. "
            f"Found {_not_finite(logits)}: does it take images of this range and precision?"
        )
    logits = logits[finite]
    if _are_probabilities(logits, classifier.output, 1e-4):
        raise ValueError(
            f"Expected classifier {classifier.name} to return logits. Found probabilities, which "
            f"{_WHICH[classifier.output]}: leave out the {classifier.output} within it."
        )
    few = classifier.output == "sigmoid" and logits.numel() < _FEWEST
    return not (few and _in_unit_interval(logits))


def _not_finite(logits: Tensor) -> str | None:
    broken = (~logits.detach().isfinite()).sum().item()
    return f"{broken} of {logits.numel()} not finite" if broken else None


def _in_unit_interval(logits: Tensor) -> bool:
    return bool(((logits >= 0) & (logits <= 1)).all())


def _fault(logits: Tensor, inputs: int, classifier: FrozenClassifier) -> str | None:
    """Description of what makes the logits unusable; None if they are usable."""
    softmax = classifier.output == "softmax"
    if logits.ndim != 2 or len(logits) != inputs or logits.shape[1] < (2 if softmax else 1):
        return f"shape {tuple(logits.shape)}"
    if broken := _not_finite(logits):
        return broken
    if torch.allclose(logits, logits[:1].expand_as(logits), rtol=1e-5):
        return "the same for all images"
    if _are_probabilities(logits.detach(), classifier.output):
        return f"probabilities, which {_WHICH[classifier.output]} ({classifier.output} within it?)"
    if not logits.requires_grad:
        return "no gradient (no_grad or detach within it?)"
    return None


def _are_probabilities(logits: Tensor, output: Output, within: float = 1e-3) -> bool:
    if output == "sigmoid":
        return logits.numel() >= _FEWEST and _in_unit_interval(logits)
    sums = logits.sum(1)
    return bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=within)


def _refusal(classifier: FrozenClassifier, inputs: int, found: str) -> ValueError:
    least = "classes >= 2" if classifier.output == "softmax" else "labels"
    return ValueError(
        f"Expected classifier {classifier.name} to map {inputs} different images to finite, "
        f"different logits ({inputs}, {least}). Found {found}. Check classifier.module, "
        "classifier.weights, classifier.mean, classifier.std and classifier.output."
    )
