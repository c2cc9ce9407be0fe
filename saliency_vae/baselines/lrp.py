"""Layer-wise relevance propagation (Bach et al. 2015; Montavon et al. 2019)."""

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from saliency_vae.baselines.copies import check_same
from saliency_vae.baselines.merged import merge_batch_norms
from saliency_vae.baselines.target_score import target_of
from saliency_vae.baselines.traced import Sum, one_module_per_call
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import recording_gradients
from saliency_vae.runtime.extras import require

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.MaxPool2d)


class LRP:
    """Relevance of the pixels for the target's logit, by the gamma, epsilon and box rules.

    The first convolution uses the box rule, the others the gamma rule, and linear layers the
    epsilon rule. Sums and average pooling split relevance in proportion to their terms. The rules
    are zennit's. Batch normalisation is merged into the convolution or linear layer before it. The
    map is the signed sum over the colour channels.

    Args:
        gamma: Share of positive weights that the gamma rule adds, >= 0.
        epsilon: Stabiliser of the epsilon rule, > 0.

    Raises:
        ValueError: If zennit is not installed or a number is out of range.
    """

    zero_is_neutral = True

    def __init__(self, gamma: float = 0.25, epsilon: float = 1e-6) -> None:
        if not (gamma >= 0 and epsilon > 0):
            raise ValueError(f"Expected gamma >= 0 and epsilon > 0. Found {gamma} and {epsilon}.")
        require("zennit", extra="rivals", wanted_by="this method")
        self.gamma = gamma
        self.epsilon = epsilon

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`.

        Raises:
            ValueError: If the classifier has other operations than linear ones, ReLUs and max
                pooling, or relies on in-place changes.
        """
        with recording_gradients():
            target = target_of(batch, classifier)
            network = _without_batch_norm(
                one_module_per_call(classifier.network, _ACTIVATIONS, method="LRP")
            )
            check_same(network, classifier, batch["image"], method="LRP")
            images = (batch["image"].detach().clone() - classifier.mean) / classifier.std
            relevance = self._relevance(images.requires_grad_(), target, classifier, network)
        return relevance.sum(1).float()

    def _relevance(
        self, images: Tensor, target: Tensor, classifier: FrozenClassifier, network: nn.Module
    ) -> Tensor:
        """Relevance (B, 3, H, W) of normalised images; not propagated through normalisation."""
        from zennit.composites import EpsilonGammaBox
        from zennit.rules import Norm

        composite = EpsilonGammaBox(
            low=(0 - classifier.mean[None]) / classifier.std,
            high=(1 - classifier.mean[None]) / classifier.std,
            gamma=self.gamma,
            epsilon=self.epsilon,
            layer_map=[(Sum, Norm())],
        )
        canonical = FrozenClassifier(network, name=classifier.name).to(images.device)
        with composite.context(canonical.network):
            logits = canonical(images)
            (relevance,) = torch.autograd.grad(logits, images, (logits * target).detach())
        return relevance


def _without_batch_norm(network: fx.GraphModule) -> fx.GraphModule:
    """Merge each batch norm into the layer before it, or replace it by a convolution."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and norm.weight is None:
            norm.weight = nn.Parameter(torch.ones_like(norm.running_var))
            norm.bias = nn.Parameter(torch.zeros_like(norm.running_var))
    merge_batch_norms(network)
    for node in network.graph.nodes:
        called = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(called, nn.BatchNorm2d):
            network.set_submodule(node.target, _as_convolution(called))
        elif isinstance(called, nn.BatchNorm1d):
            raise ValueError(
                "Expected each nn.BatchNorm1d after an nn.Linear for LRP. Found one that is not."
            )
    return network


def _as_convolution(norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Batch norm in eval mode as a depthwise 1x1 convolution."""
    channels = norm.num_features
    with torch.device("meta"):  # draws no random weights
        identity = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    identity.weight = nn.Parameter(norm.weight.new_ones(identity.weight.shape))
    return fuse_conv_bn_eval(identity.eval(), norm)
