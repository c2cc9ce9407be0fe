"""Deep ensembles (Lakshminarayanan et al. 2017) of explainers: where the members disagree."""

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.models import Explainer
from saliency_vae.models.ensemble import Ensemble
from saliency_vae.models.universal_encoder import UniversalUNet


class MemberDisagreement:
    """Standard deviation of the mean maps of an explainer's networks.

    Args:
        explainer: Explainer of several networks, see :func:`has_members`.
    """

    def __init__(self, explainer: Explainer) -> None:
        self.explainer = explainer

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Uncertainty, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        encoder, images = self.explainer.encoder, batch["image"]
        assert isinstance(encoder, UniversalUNet)
        signals = encoder.signals(images, classifier, batch.get("target"))
        means, _ = encoder.of_members(images, signals).unbind(2)
        return means.std(0, correction=0)


def has_members(explainer: Explainer) -> bool:
    """Whether an explainer consists of several networks."""
    encoder = explainer.encoder
    return isinstance(encoder, UniversalUNet) and isinstance(encoder.unet, Ensemble)
