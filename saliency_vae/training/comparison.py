"""Comparison of a trained explainer with the plain gradient of its classifier."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.data import Batch
from saliency_vae.metrics import difference_interval
from saliency_vae.metrics.insertion_deletion import area_under_curve, insertion_curve
from saliency_vae.metrics.views import views_at_once
from saliency_vae.models.signals import extract_signals
from saliency_vae.models.undertrained import FEWEST, GAIN, GAIN_HIGH, GAIN_LOW
from saliency_vae.runtime.random import seeded
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.training.panels import images_from_all_over

_IMAGES, _STEPS = 32, 8


@torch.no_grad()
def compare_with_gradient(
    module: VariationalSaliency, validation: Dataset[Batch], batch_size: int
) -> dict[str, float]:
    """Measure the insertion score of explainer and gradient on a few validation images.

    The gradient is the smoothed one of the decision's log-odds with respect to the mask, which an
    explainer should at least surpass. With several tasks, only the last one is measured.

    Args:
        module: Module whose explainer is trained.
        validation: Validation images.
        batch_size: Most images or views in memory at once: the batch size of training.

    Returns:
        Metrics by name: mean insertion of each over the training's baseline image, and their
        difference with its 95 % interval, which is missing for fewer than 5 images.
    """
    module.eval()
    classifier = module.classifiers[-1]
    images = images_from_all_over(validation, _IMAGES)["image"].to(module.device).float() / 255
    with seeded(0, images.device):  # a baseline image may be noise
        baseline = module.objective.perturbation(images)
    step = -(-images[0, 0].numel() // _STEPS)
    views = min(batch_size, views_at_once(images))

    def insertion(part: slice, maps: Tensor) -> Tensor:
        shown = images[part], maps, baseline[part]
        return area_under_curve(insertion_curve(classifier, *shown, step=step, batch_size=views))

    of_explainer, of_gradient = [], []
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        signals = module.explainer.signals(images[part], classifier=classifier)
        explained = module.explainer.encode(images[part], signals=signals).mean
        gradient = extract_signals(images[part], classifier, [1.0], ()).gradients[:, 0]
        of_explainer.append(insertion(part, explained))
        of_gradient.append(insertion(part, gradient))
    explained, gradient = torch.cat(of_explainer), torch.cat(of_gradient)
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
    """Summarise the result of :func:`compare_with_gradient` in one line."""
    line = (
        "Insertion over the training's baseline image, on validation images: "
        f"{metrics['val/insertion']:.3f}; the classifier's gradient alone: "
        f"{metrics['val/gradient_insertion']:.3f}; difference {metrics[GAIN]:+.3f}"
    )
    if GAIN_LOW not in metrics:
        return f"{line}, without an interval, which takes at least {FEWEST} validation images."
    return f"{line} [{metrics[GAIN_LOW]:+.3f}, {metrics[GAIN_HIGH]:+.3f}]."
