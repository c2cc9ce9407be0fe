"""Guided backpropagation (Springenberg et al. 2015).

Captum's is not used: its hook also rectifies the gradient that flows past a ReLU whose input is
used twice, as in residual networks with pre-activation.
"""

from typing import Any

import torch
from torch import Tensor, nn

from saliency_vae.baselines.target_score import TargetScore, asked, copy_to_modify
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import recording_gradients


class _GuidedReLUFunction(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        guided: Tensor = gradient.relu() * (x > 0)
        return guided


class _GuidedReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        guided: Tensor = _GuidedReLUFunction.apply(x)
        return guided


class GuidedBackprop:
    """Gradient of the target's logit, in which every ReLU passes on only positive gradients.

    The map is the sum of magnitudes over the colour channels.
    """

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W).

        Raises:
            ValueError: If the classifier has no ``nn.ReLU``, so that nothing would be guided.
        """
        guided = copy_to_modify(classifier)
        # A module that is used twice has two names, and is replaced under both.
        relus = [
            name
            for name, module in guided.named_modules(remove_duplicate=False)
            if isinstance(module, nn.ReLU)
        ]
        if not relus:
            raise ValueError(
                "Expected a classifier with nn.ReLU modules for guided backprop. "
                f"Found none in {classifier.name}."
            )
        for name in relus:
            guided.set_submodule(name, _GuidedReLU())
        with recording_gradients():
            images = batch["image"].detach().clone().requires_grad_()
            score = TargetScore(guided)(images, asked(batch, classifier))
            (gradient,) = torch.autograd.grad(score.sum(), images)
        return gradient.abs().sum(1)
