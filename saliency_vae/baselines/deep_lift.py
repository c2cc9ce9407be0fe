"""DeepLIFT (Shrikumar et al. 2017), by the rescale rule."""

from torch import Tensor, fx, nn

from saliency_vae.baselines.captum_method import attribute, captum_class
from saliency_vae.baselines.copies import check_same, shared_copy
from saliency_vae.baselines.target_score import TargetScore
from saliency_vae.baselines.traced import one_module_per_call
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.perturbations import Blur
from saliency_vae.runtime.autograd import recording_gradients

_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.MaxPool2d)


class DeepLIFT:
    """Difference between the target's logits on image and baseline, distributed over the pixels.

    Each activation multiplies the gradient by its output difference over its input difference.
    Captum does this on a copy in which every activation is a separate module. The map is the sum of
    magnitudes over the colour channels.

    Args:
        baseline: Makes the baseline images, see :mod:`saliency_vae.perturbations`; by default a
            blur by a sixth of the shorter side.

    Raises:
        ValueError: If Captum is not installed.
    """

    def __init__(self, baseline: nn.Module | None = None) -> None:
        self.baseline = baseline or Blur()
        self.attribution = captum_class("captum.attr.DeepLift")

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`.

        Raises:
            ValueError: If the classifier has an operation that the rule does not cover, such as
                a product of feature maps, or relies on in-place changes.
        """
        images = batch["image"]
        with recording_gradients():
            copied = shared_copy(classifier)
            copied.network = _rescalable(classifier.network)
        check_same(copied.network, classifier, images, method="DeepLIFT")
        method, baseline = self.attribution(TargetScore(copied)), self.baseline(images)
        return attribute(method, batch, classifier, baselines=baseline).abs().sum(1)


def _rescalable(network: nn.Module) -> fx.GraphModule:
    """Copy a network, using only modules that Captum's rule supports."""
    copied = one_module_per_call(network, (*_ACTIVATIONS, nn.ReLU6), method="DeepLIFT")
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.ReLU6):
            copied.set_submodule(name, _ClippedReLU(module.max_val))
    return copied


class _ClippedReLU(nn.Module):
    """ReLU6 as the difference of two ReLUs, which Captum supports; its multiplier is the same."""

    def __init__(self, highest: float) -> None:
        super().__init__()
        self.highest = highest
        self.above_zero, self.above_highest = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Clip to [0, highest]."""
        lower: Tensor = self.above_zero(x.clone())  # each ReLU gets its own input
        upper: Tensor = self.above_highest(x - self.highest)
        return lower - upper
