"""Classifier signals of an image, which a classifier-conditioned encoder reads.

They are feature maps, as in a feature pyramid (Lin et al. 2017), and the gradient of the explained
score, as in iterative amortised inference (Marino, Yue and Mandt 2018).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import get_ident
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.models.feature_taps import (
    channels_come_last,
    is_grid,
    is_split,
    may_give_maps,
    nearest_stride,
    token_shapes,
)
from saliency_vae.perturbations import blurred, perturb
from saliency_vae.runtime.autograd import recording_gradients

_LARGEST = 10.0  # in standard deviations; a few pixels must not drown the rest
_SMALLEST = 0.01  # nats over all pixels; below it, as in flat images, gradients are rounding errors


@dataclass(frozen=True)
class ClassifierSignals:
    """Signals of a classifier for images.

    Attributes:
        logits: Logits of the whole image, (B, classes).
        gradients: Gradient of the decision's log-odds with respect to the mask at each level,
            smoothed and scaled to unit standard deviation, (B, levels, H, W).
        features: Feature maps of the classifier by module name, each (B, C, h, w).
    """

    logits: Tensor
    gradients: Tensor
    features: dict[str, Tensor]
    target: Tensor | None = None  # None: the decision is explained

    def zeroed(self) -> Self:
        """Return a copy with gradients and features set to zero, as a control."""
        features = {key: torch.zeros_like(found) for key, found in self.features.items()}
        return replace(self, gradients=torch.zeros_like(self.gradients), features=features)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # hooks and gradients are not compiled
def extract_signals(
    images: Tensor,
    classifier: FrozenClassifier,
    levels: Sequence[float],
    names: Collection[str],
) -> ClassifierSignals:
    """Extract a classifier's signals in one forward and backward pass, all levels in one batch.

    At each level the image is blended with its blur, as if that level were the mask's value.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        classifier: Frozen classifier.
        levels: Mask values, in (0, 1]; the last is 1, the image itself.
        names: Names of the modules whose outputs are the feature maps.
    """
    number, _, height, width = images.shape
    full_precision = torch.autocast(images.device.type, enabled=False)  # they set the prior mean
    with full_precision, recording_gradients():
        # Copied, because tensors made in inference mode have no gradient.
        images = images.detach().to(classifier.mean.dtype, copy=True)
        level = images.new_tensor(levels).repeat_interleave(number)
        mask = level[:, None, None].expand(-1, height, width).clone().requires_grad_()
        repeated = images.repeat(len(levels), 1, 1, 1)
        baseline = blurred(images).repeat(len(levels), 1, 1, 1)
        with _observed(classifier.network, names) as features:
            logits = classifier.forward_uncompiled(perturb(repeated, mask, baseline)).float()
        whole = logits[-number:].detach()
        score = classifier.log_odds(logits, classifier.decide(whole).repeat(len(levels), 1))
        (gradient,) = torch.autograd.grad(score.sum(), mask)
        gradients = scaled(gradient.view(len(levels), number, height, width).transpose(0, 1))
    return ClassifierSignals(
        whole,
        gradients,
        {name: output[-number:].detach() for name, output in features.items()},
    )


def scaled(gradients: Tensor) -> Tensor:
    """Smooth gradients, (..., H, W), and scale each to unit standard deviation.

    The smoothing kernel is 1, 2, 1 along both axes. It removes what changes sign from pixel to
    pixel: the grid that a stride of 2 leaves in a gradient, and so in the maps of an encoder that
    reads it.
    """
    height, width = gradients.shape[-2:]
    gradients = gradients.to(torch.promote_types(gradients.dtype, torch.float32))
    padded = F.pad(gradients, (1, 1, 1, 1), mode="replicate")
    smooth = F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2, stride=1)
    spread = smooth.std((-2, -1), keepdim=True).clamp_min(_SMALLEST / (height * width))
    return (smooth / spread).clamp(-_LARGEST, _LARGEST)


def find_feature_maps(classifier: FrozenClassifier, images: Tensor) -> dict[str, dict[str, int]]:
    """Find the last feature map of each resolution coarser than the image's.

    Args:
        classifier: Any classifier. One without maps (B, C, h, w), such as a transformer, gives
            none.
        images: A few images in [0, 1], (B, 3, H, W).

    Returns:
        ``channels`` of each map and ``stride`` in pixels of the image, by module name.
    """
    names = [
        name
        for name, module in classifier.network.named_modules()
        if name and may_give_maps(module)
    ]
    with torch.no_grad(), _observed(classifier.network, names) as outputs:
        classifier.forward_uncompiled(images)
    number, size = images.shape[0], (images.shape[-2], images.shape[-1])
    tokens: set[tuple[int, int]] = set()
    maps: dict[str, Tensor] = {}
    for name, output in outputs.items():
        if not isinstance(output, Tensor):
            continue
        tokens |= token_shapes(output)
        # Windows of a map are more than the images.
        if output.ndim == 4 and output.shape[0] == number and not is_split(output, tokens):
            maps[name] = output
    channels_last = channels_come_last(maps.values(), size)
    last: dict[int, tuple[str, int]] = {}
    for name, output in maps.items():
        if 1 in output.shape[-2:] or (channels_last and output.shape[1] == output.shape[2]):
            continue
        grid = output.shape[-2], output.shape[-1]
        down, across = (round(n / m) for n, m in zip(size, grid, strict=True))
        if is_grid(grid, size):  # else the channels come last
            last[down if down == across else nearest_stride(grid, size)] = name, output.shape[1]
    return {
        name: {"channels": channels, "stride": stride} for stride, (name, channels) in last.items()
    }


@contextmanager
def _observed(network: nn.Module, names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Collect the outputs of modules, in the order in which the modules run.

    Raises:
        ValueError: If the network lacks one of the modules.
    """
    outputs: dict[str, Any] = {}
    thread = get_ident()

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if get_ident() != thread:  # another thread's images in the same network
            return
        outputs.pop(name, None)  # a module that runs twice is placed by its last run
        outputs[name] = output

    try:
        modules = {name: network.get_submodule(name) for name in names}
    except AttributeError as error:
        raise ValueError(
            f"Expected a classifier with the modules {', '.join(names)}, whose feature maps the "
            f"encoder sees. Found another classifier: {error}."
        ) from None
    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
