"""What a classifier's decision on an image rests on: seen by an encoder that asks the classifier.

Its feature maps, as in a feature pyramid (Lin et al. 2017), and the gradient of what is to be
explained, as in iterative amortised inference (Marino, Yue and Mandt 2018).
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.perturbations import blurred, perturb

_FARTHEST = 10.0  # standard deviations; a few pixels must not drown the others
_LEAST = 0.01  # nats over all pixels; below it, as where an image is flat, gradients are rounding


@dataclass(frozen=True)
class ClassifierSignals:
    """What a classifier says of images.

    Attributes:
        logits: Of the whole image, (B, classes).
        gradients: Of the decision's log-odds with respect to the mask, at each level, smoothed
            and scaled to unit standard deviation, (B, levels, H, W).
        features: The classifier's feature maps by module name, each (B, C, h, w).
    """

    logits: Tensor
    gradients: Tensor
    features: dict[str, Tensor]


@torch.compiler.disable  # type: ignore[untyped-decorator]  # hooks and gradients are not compiled
def extract_signals(
    images: Tensor,
    classifier: FrozenClassifier,
    levels: Sequence[float],
    names: Collection[str],
) -> ClassifierSignals:
    """Ask a classifier about images: one pass forward and back, of all levels together.

    Args:
        images: In [0, 1], (B, 3, H, W).
        classifier: Frozen.
        levels: Kept everywhere of the image, the rest being its blur, in (0, 1]; the last is 1.
        names: Of the modules whose outputs are the feature maps.
    """
    number, _, height, width = images.shape
    exact = torch.autocast(images.device.type, enabled=False)  # as the prior, which they move
    with exact, torch.inference_mode(False), torch.enable_grad():
        # Copied, because what inference mode made knows no gradient.
        images = images.detach().to(classifier.mean.dtype, copy=True)
        kept = images.new_tensor(levels).repeat_interleave(number)
        mask = kept[:, None, None].expand(-1, height, width).clone().requires_grad_()
        copies = images.repeat(len(levels), 1, 1, 1)
        baseline = blurred(images).repeat(len(levels), 1, 1, 1)
        with _observed(classifier.network, names) as features:
            logits = classifier.eager(perturb(copies, mask, baseline)).float()
        whole = logits[-number:].detach()
        score = classifier.decision_log_odds(whole.repeat(len(levels), 1), logits)
        (gradient,) = torch.autograd.grad(score.sum(), mask)
        gradients = _smoothed(gradient.view(len(levels), number, height, width).transpose(0, 1))
    spread = gradients.std((-2, -1), keepdim=True).clamp_min(_LEAST / (height * width))
    return ClassifierSignals(
        whole,
        (gradients / spread).clamp(-_FARTHEST, _FARTHEST),
        {name: output[-number:].detach() for name, output in features.items()},
    )


def _smoothed(gradients: Tensor) -> Tensor:
    """Weigh each pixel and its neighbours by 1, 2, 1 along both axes.

    That takes away what changes sign from pixel to pixel: the grid that a stride of 2 leaves in a
    gradient, and in the maps of an encoder that sees it.
    """
    padded = F.pad(gradients, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2, stride=1)


def feature_maps(classifier: FrozenClassifier, images: Tensor) -> dict[str, dict[str, int]]:
    """Find the last feature map of each resolution coarser than the image's.

    Args:
        classifier: Any; none is found in one without maps (B, C, h, w), such as a transformer.
        images: A few, in [0, 1], (B, 3, H, W).

    Returns:
        By module name, its ``channels`` and its ``stride`` in pixels of the image.
    """
    names = [name for name, _ in classifier.network.named_modules() if name]
    with torch.no_grad(), _observed(classifier.network, names) as outputs:
        classifier.eager(images)
    last: dict[int, tuple[str, int]] = {}
    for name, output in outputs.items():
        if not isinstance(output, Tensor) or output.ndim != 4 or 1 in output.shape[-2:]:
            continue
        down, across = (n / m for n, m in zip(images.shape[-2:], output.shape[-2:], strict=True))
        # Unequal strides are those of channels, where they come last.
        if round(down) == round(across) > 1:
            last[round(down)] = name, output.shape[1]
    return {
        name: {"channels": channels, "stride": stride} for stride, (name, channels) in last.items()
    }


@contextmanager
def _observed(network: nn.Module, names: Collection[str]) -> Iterator[dict[str, Any]]:
    """Collect the outputs of modules, in the order in which they come.

    Raises:
        ValueError: If the network has no such modules.
    """
    outputs: dict[str, Any] = {}
    thread = get_ident()

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if get_ident() != thread:  # another's images, in the same network
            return
        outputs.pop(name, None)  # of a module that runs twice the later, in its place
        outputs[name] = output

    try:
        modules = {name: network.get_submodule(name) for name in names}
    except AttributeError as error:
        raise ValueError(
            f"Expected a classifier with the modules {', '.join(names)}, whose feature maps the "
            f"encoder sees. Found another: {error}."
        ) from None
    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
