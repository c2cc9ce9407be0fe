"""Baselines: baseline images and imputations that replace removed pixels in an evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.metrics import Imputation, InPainting, NoisyLinearImputation
from saliency_vae.models.part_names import to_named
from saliency_vae.perturbations import Blur, Constant, Mean, Noise, blurred

Baseline = Tensor | Imputation


def light_blur(images: Tensor) -> Tensor:
    """Blur images (B, 3, H, W) as RISE does for insertion: sigma is 5 pixels at 224 x 224."""
    result: Tensor = Blur(5 / 224 * min(images.shape[-2:]))(images)
    return result


def noise(images: Tensor) -> Tensor:
    """Make :class:`Noise` baselines of images (B, 3, H, W), the same in every evaluation."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(images.shape[1:], generator=generator).to(images)
    result: Tensor = (Mean()(images) + Noise().stddev * drawn).clamp(0, 1)
    return result


# Name to a function of images in [0, 1], (B, 3, H, W), and their classifier that returns baseline
# images or an imputation. None of them depends on the explainer.
BASELINE_IMAGES: dict[str, Callable[[Tensor, FrozenClassifier], Baseline]] = {
    "blur": lambda images, classifier: blurred(images),
    "mean": lambda images, classifier: Mean()(images),
    "zero": lambda images, classifier: Constant()(images),
    "noise": lambda images, classifier: noise(images),
    "light_blur": lambda images, classifier: light_blur(images),
    # The colour that the classifier's normalisation maps to 0.
    "classifier_mean": lambda images, classifier: classifier.mean.expand_as(images),
    "inpaint": lambda images, classifier: InPainting(),
    "road": lambda images, classifier: NoisyLinearImputation(),
}
IMPUTATIONS = ("inpaint", "road")  # rejected by training


def other_baseline_images(names: Sequence[str]) -> list[str]:
    """Names of the baseline images that are not among the given ones.

    Example:
        >>> other_baseline_images(["blur", "mean", "zero", "noise", "road"])
        ['light_blur', 'classifier_mean', 'inpaint']
    """
    return [name for name in BASELINE_IMAGES if name not in names]


def seen_in_training(perturbation: Mapping[str, Any] | None) -> set[str]:
    """Names of the baseline images that the training of an explainer used.

    Args:
        perturbation: Hydra node of the training's perturbation. If it is unknown or not from this
            package, all names except imputations count as used.

    Example:
        >>> blur = {"_target_": "saliency_vae.perturbations.Blur"}
        >>> mean = {"_target_": "saliency_vae.perturbations.Mean"}
        >>> mixture = {"_target_": "saliency_vae.perturbations.Mixture", "baselines": [blur, mean]}
        >>> seen_in_training(blur), sorted(seen_in_training(mixture))
        ({'blur'}, ['blur', 'mean'])
    """
    return _seen(to_named("perturbation", perturbation or {}))


def _seen(part: Mapping[str, Any]) -> set[str]:
    match part.get("type"):
        case "mixture":
            return set().union(*map(_seen, part["baselines"]))
        case "mean" | "noise" as kind:
            return {kind}
        case "blur":  # with a given width it may be either
            return {"blur"} if part.get("sigma") is None else {"blur", "light_blur"}
        case "constant":  # any other colour may be the classifier's mean
            return {"classifier_mean"} if any(part.get("colour", ())) else {"zero"}
        case "other":  # other images of the batch, which no evaluation uses
            return set()
    return set(BASELINE_IMAGES) - set(IMPUTATIONS)
