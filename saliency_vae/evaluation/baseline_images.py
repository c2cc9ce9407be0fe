"""Baseline images: what takes the place of the pixels that an evaluation removes."""

from collections.abc import Callable, Sequence

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.perturbations import Blur, Constant, Mean, blurred


def light_blur(images: Tensor) -> Tensor:
    """Blur images (B, 3, H, W) as RISE does for insertion: by 5 pixels where a side has 224."""
    result: Tensor = Blur(5 / 224 * min(images.shape[-2:]))(images)
    return result


# By name: functions of images in [0, 1], (B, 3, H, W), and their classifier. None of them depends
# on the explainer.
BASELINE_IMAGES: dict[str, Callable[[Tensor, FrozenClassifier], Tensor]] = {
    "blur": lambda images, classifier: blurred(images),
    "mean": lambda images, classifier: Mean()(images),
    "zero": lambda images, classifier: Constant()(images),
    "light_blur": lambda images, classifier: light_blur(images),
    # The colour that the classifier's normalisation maps to 0.
    "classifier_mean": lambda images, classifier: classifier.mean.expand_as(images),
}


def other_baseline_images(names: Sequence[str]) -> list[str]:
    """Names of the baseline images that are not among the given ones.

    Example:
        >>> other_baseline_images(["blur", "mean", "zero"])
        ['light_blur', 'classifier_mean']
    """
    return [name for name in BASELINE_IMAGES if name not in names]
