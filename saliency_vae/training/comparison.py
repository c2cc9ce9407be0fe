"""How a trained explainer compares with the gradient of its classifier alone."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data import Batch
from saliency_vae.metrics import difference_interval
from saliency_vae.metrics.insertion_deletion import area_under_curve, insertion_curve
from saliency_vae.models.signals import extract_signals
from saliency_vae.models.undertrained import FEWEST, GAIN, GAIN_HIGH, GAIN_LOW
from saliency_vae.runtime.random import seeded
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.training.panels import images_from_all_over

_IMAGES, _STEPS = 32, 8


@torch.no_grad()
def compare_with_gradient(
    module: VariationalSaliency, validation: Dataset[Batch]
) -> dict[str, float]:
    """Measure the insertion of a few validation images by the explainer and by the gradient.

    The gradient is that of the decision's log-odds with respect to the mask, smoothed: the least
    that an explainer must surpass. Of several tasks, the last one is measured.

    Args:
        module: Module whose explainer is trained.
        validation: Validation images.

    Returns:
        Mean insertion of each over the baseline image of the training, and the difference with the
        ends of its interval (95 %), by the names of metrics; of fewer than 5 images no interval.
    """
    module.eval()
    classifier = module.classifiers[-1]
    images = images_from_all_over(validation, _IMAGES)["image"].to(module.device).float() / 255
    signals = module.explainer.signals(images, classifier=classifier)
    with seeded(0, images.device):  # a baseline image may be noise
        baseline = module.objective.perturbation(images)
    step = -(-images[0, 0].numel() // _STEPS)

    def insertion(maps: Tensor) -> Tensor:
        curves = insertion_curve(classifier, images, maps, baseline, step=step)
        return area_under_curve(curves)

    explained = insertion(module.explainer.encode(images, signals=signals).mean)
    gradient = insertion(extract_signals(images, classifier, [1.0], ()).gradients[:, 0])
    found = {
        "val/insertion": float(explained.mean()),
        "val/gradient_insertion": float(gradient.mean()),
        GAIN: float((explained - gradient).mean()),
    }
    if len(images) >= FEWEST:
        _, low, high = map(float, difference_interval(explained, gradient))
        found |= {GAIN_LOW: low, GAIN_HIGH: high}
    return found


def as_line(metrics: dict[str, float]) -> str:
    """Say what :func:`compare_with_gradient` found in one line."""
    line = (
        "Insertion over the training's baseline image, on validation images: "
        f"{metrics['val/insertion']:.3f}; the classifier's gradient alone: "
        f"{metrics['val/gradient_insertion']:.3f}; difference {metrics[GAIN]:+.3f}"
    )
    if GAIN_LOW not in metrics:
        return f"{line}, without an interval, which takes at least {FEWEST} validation images."
    return f"{line} [{metrics[GAIN_LOW]:+.3f}, {metrics[GAIN_HIGH]:+.3f}]."
