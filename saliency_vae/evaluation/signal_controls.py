"""Signal controls: a classifier-conditioned explainer without the signals of its classifier.

If its maps are as good without signals, or with those of a randomised classifier, the explainer
finds objects instead of explaining the classifier.
"""

import copy

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.explaining import target_for
from saliency_vae.models import Explainer
from saliency_vae.runtime.autograd import recording_gradients

# Names of controls that see the image, but no signals of the explained classifier.
CONTROLS = ("zeroed_signals", "randomised_signals", "image_only")


class ZeroedSignals:
    """The posterior mean of an explainer that sees the image, with all signals set to zero.

    Args:
        explainer: Explainer with a classifier-conditioned encoder; it is not changed.
    """

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = copy.copy(explainer)  # shares the weights, but not the classifier

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        images = batch["image"]
        explainer = self.explainer.to(images.device).attach_classifier(classifier, force=True)
        signals = explainer.signals(images, batch.get("target"))
        assert signals is not None  # the encoder is classifier-conditioned
        return explainer.encode(images, signals=signals.zeroed()).mean


class RandomisedSignals:
    """The posterior mean of an explainer that sees signals of a classifier with shuffled weights.

    Args:
        explainer: Explainer with a classifier-conditioned encoder; it is not changed.
    """

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = copy.copy(explainer)  # shares the weights, but not the classifier
        # The classifier of the last batch, and its copy with shuffled weights.
        self._shuffled: tuple[FrozenClassifier, FrozenClassifier] | None = None

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        if self._shuffled is None or self._shuffled[0] is not classifier:
            with recording_gradients():
                self._shuffled = classifier, randomised_classifier(classifier)
        images, shuffled = batch["image"], self._shuffled[1]
        explainer = self.explainer.to(images.device).attach_classifier(shuffled, force=True)
        return explainer.encode(images, target=target_for(explainer, batch)).mean


def signal_controls(explainer: Explainer) -> dict[str, Method]:
    """Make the controls of an explainer, by name; none if its encoder sees only the image.

    Args:
        explainer: Explainer to evaluate; it is not changed.
    """
    if not explainer.is_conditional:
        return {}
    return {
        "zeroed_signals": ZeroedSignals(explainer),
        "randomised_signals": RandomisedSignals(explainer),
    }
