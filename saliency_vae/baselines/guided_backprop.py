"""Guided backpropagation (Springenberg et al. 2015).

Captum's version is not used. Its hook also rectifies the gradient that bypasses a ReLU whose input
is used twice, as in pre-activation residual networks, and it misses calls of ``F.relu``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from saliency_vae.baselines.target_score import TargetScore, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import recording_gradients

_IN_PLACE = (torch.relu_, Tensor.relu_)  # F.relu_ is torch.relu_
_RELUS = (F.relu, torch.relu, Tensor.relu, *_IN_PLACE)  # nn.ReLU calls F.relu


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        guided: Tensor = gradient.relu() * (x > 0)
        return guided


class _Guiding(TorchFunctionMode):
    """Context that replaces every ReLU call (module, function or method) by a guided one.

    Attributes:
        calls: Number of replaced calls so far.
    """

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _RELUS:
            return func(*args, **(kwargs or {}))
        self.calls += 1
        x, in_place = _arguments(*args, **(kwargs or {}))
        if in_place or func in _IN_PLACE:
            return x.copy_(_GuidedReLU.apply(x.clone()))
        return _GuidedReLU.apply(x)


def _arguments(input: Tensor, inplace: bool = False) -> tuple[Tensor, bool]:
    return input, inplace


class GuidedBackprop:
    """Gradient of the target's logit in which every ReLU passes back only positive gradients.

    The map is the sum of magnitudes over the colour channels.
    """

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`.

        Raises:
            ValueError: If the classifier calls no ReLU, so that nothing would be guided.
        """
        with recording_gradients():
            target = target_of(batch, classifier)
            images = batch["image"].detach().clone().requires_grad_()
            with _Guiding() as guiding:
                score = TargetScore(classifier)(images, target)
            if not guiding.calls:
                raise ValueError(
                    "Expected a classifier with ReLUs for guided backprop. "
                    f"Found none in {classifier.name}."
                )
            (gradient,) = torch.autograd.grad(score.sum(), images)
        return gradient.abs().sum(1)
