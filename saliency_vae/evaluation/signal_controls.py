"""Is it the classifier that is explained? An explainer without its classifier's signals.

A classifier-conditioned explainer whose maps are as good with no signals, or with those of a
classifier that has learned nothing, finds objects instead of explaining the classifier.
"""

import copy

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.data import Batch
from saliency_vae.models import Explainer
from saliency_vae.runtime.autograd import recording_gradients

# Names of explainers that see the image, and no signals of the classifier that is explained.
CONTROLS = ("zeroed_signals", "randomised_signals", "image_only")


class ZeroedSignals:
    """The posterior mean of an explainer that sees the image, and zeros for all signals.

    Args:
        explainer: Explainer with a classifier-conditioned encoder; it stays as it is.
    """

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = copy.copy(explainer)  # its weights, with another classifier

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        images = batch["image"]
        explainer = self.explainer.to(images.device).attach_classifier(classifier, force=True)
        signals = explainer.signals(images, batch.get("target"))
        assert signals is not None  # the encoder is classifier-conditioned
        return explainer.encode(images, signals=signals.zeroed()).mean


class RandomisedSignals:
    """The posterior mean of an explainer that asks a classifier with shuffled weights.

    Args:
        explainer: Explainer with a classifier-conditioned encoder; it stays as it is.
    """

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = copy.copy(explainer)  # its weights, with another classifier
        # The classifier of the last batch, and the same with shuffled weights.
        self._shuffled: tuple[FrozenClassifier, FrozenClassifier] | None = None

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        if self._shuffled is None or self._shuffled[0] is not classifier:
            with recording_gradients():
                self._shuffled = classifier, randomised_classifier(classifier)
        images, shuffled = batch["image"], self._shuffled[1]
        explainer = self.explainer.to(images.device).attach_classifier(shuffled, force=True)
        return explainer.encode(images, target=batch.get("target")).mean


def signal_controls(explainer: Explainer) -> dict[str, Method]:
    """Make the controls of an explainer by name; none where the encoder sees the image alone.

    Args:
        explainer: Explainer to evaluate; it stays as it is.
    """
    if not explainer.is_conditional:
        return {}
    return {
        "zeroed_signals": ZeroedSignals(explainer),
        "randomised_signals": RandomisedSignals(explainer),
    }
