"""Explanation of a batch by a method, in parts that fit a CPU's cache and memory."""

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.data.batch import rows
from saliency_vae.metrics import positive_attribution, views_at_once
from saliency_vae.models import Explainer


def explain_batch(method: Method, batch: Batch, classifier: FrozenClassifier) -> Tensor:
    """Explain a batch, on a CPU a few images at a time: maps (B, H, W).

    Methods that hook the classifier keep all of its activations. For 48 images of 224x224 pixels,
    DeepLIFT needs 21 GB; with 5 images at a time, it needs 3 GB and is five times as fast.

    Args:
        method: Method that explains.
        batch: Images (B, 3, H, W) in [0, 1], and their annotations.
        classifier: Classifier to explain.

    Raises:
        ValueError: If the maps are not finite or not (B, H, W).
    """
    images = batch["image"]
    size = views_at_once(images)
    parts = (rows(batch, slice(first, first + size)) for first in range(0, len(images), size))
    maps = torch.cat([method(part, classifier).detach() for part in parts])
    expected = (len(images), *images.shape[-2:])
    if tuple(maps.shape) != expected:
        raise ValueError(f"Expected maps {expected}. Found {tuple(maps.shape)}.")
    if not maps.isfinite().all():
        raise ValueError("Expected finite maps. Found NaN or infinity.")
    return maps


def target_for(explainer: Explainer, batch: Batch) -> Tensor | None:
    """Target of a batch; else, for a universal explainer, the decision if it is known."""
    return batch.get("target", batch.get("decision") if explainer.is_universal else None)


def attribution_of(method: Method, maps: Tensor) -> Tensor:
    """Positive attribution of a method's maps (B, H, W): (B, H, W), >= 0."""
    neutral = bool(getattr(method, "zero_is_neutral", False))
    return positive_attribution(maps, zero_is_neutral=neutral)
