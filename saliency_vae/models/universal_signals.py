"""Classifier signals in a form that is the same for every classifier.

They are gradient times activation of the last feature maps of each stride, reduced over the
channels, so that a trained encoder can read those of a classifier it has never seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from saliency_vae.classifiers import FrozenClassifier, Target, as_logits
from saliency_vae.models.feature_taps import STRIDES, Features, tapped_features
from saliency_vae.models.signals import scaled
from saliency_vae.perturbations import blurred
from saliency_vae.runtime.autograd import recording_gradients
from saliency_vae.runtime.memory import is_out_of_memory
from saliency_vae.runtime.text import described

KINDS = 4  # kinds of maps at a stride: positive part, negative part, Grad-CAM, strength
NOISE = 0.1  # standard deviation of the noise of a copy; images are in [0, 1]
# Most pixels per image in a pass: on a CPU, more would need more memory without saving time.
_PIXELS_ON_CPU = 2 * 128 * 128
# By network and stride: index of the last features that the logits depend on.
_last_used: WeakKeyDictionary[nn.Module, dict[int, int]] = WeakKeyDictionary()


@dataclass(frozen=True)
class UniversalSignals:
    """Signals of a classifier for images and targets, in the same form for every classifier.

    Attributes:
        logits: Logits of the whole image, (B, classes).
        target: Target, as weights of the logits, (B, classes); None for a custom score.
        gradients: Gradient of the target's log-odds with respect to the mask at each level: mean
            and standard deviation over the copies of the image, (B, 2 x levels, H, W).
        maps: Maps of gradient times activation, by stride in pixels: positive part, negative part,
            Grad-CAM and strength at each level, mean and standard deviation over the copies,
            (B, 8 x levels, h, w). A stride that the classifier lacks is missing.
        copies: Number of copies of the image.
    """

    logits: Tensor
    target: Tensor | None
    gradients: Tensor
    maps: dict[int, Tensor]
    copies: int = 1

    @property
    def spread(self) -> Tensor | None:
        """Standard deviation of the gradients over the copies, mean over levels, (B, H, W), >= 0.

        Float32, whatever the classifier's precision; None if there is only one copy.
        """
        if self.copies == 1:
            return None
        _, spread = self.gradients.chunk(2, dim=1)
        return spread.mean(1).float()

    def zeroed(self) -> Self:
        """Return a copy with gradients and maps set to zero, as a control."""
        maps = {key: torch.zeros_like(found) for key, found in self.maps.items()}
        return replace(self, gradients=torch.zeros_like(self.gradients), maps=maps)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # hooks and gradients are not compiled
def extract_universal_signals(
    images: Tensor,
    classifier: FrozenClassifier,
    *,
    target: Target | None = None,
    levels: Sequence[float] = (0.5, 1.0),
    noise: Tensor,
) -> UniversalSignals:
    """Extract a classifier's signals by one forward and backward pass per copy and level.

    At each level the image is blended with its blur, as if that level were the mask's value.
    The first copy is the image itself, the others have noise added.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        classifier: Any frozen classifier.
        target: Target to explain; None for the decision.
        levels: Mask values, in (0, 1]; the last is 1, the image itself.
        noise: Noise of all copies but the first, (copies - 1, 1 or B, 3, H, W).

    Raises:
        ValueError: If there is no image, or the score has no gradient.
    """
    if images.shape[0] == 0:  # len() would fix the batch size of an export
        raise ValueError(f"Expected at least one image. Found {tuple(images.shape)}.")
    with torch.autocast(images.device.type, enabled=False), recording_gradients():
        images = images.detach().to(classifier.mean.dtype, copy=True)
        copies, baseline = images[None], blurred(images)
        if len(noise):
            copies = torch.cat([copies, images + noise.to(images)])
        asked, parts = target, list[_CopySignals]()
        for some in torch.split(copies, _copies_at_once(copies, len(levels))):
            part, asked = _signals_of_copies(some, baseline, classifier, asked, levels)
            parts.append(part)
    joined = partial(_over_copies, copies=len(copies), levels=len(levels))
    strides = [stride for stride in STRIDES if all(stride in part.maps for part in parts)]
    return UniversalSignals(
        parts[0].logits,
        asked if isinstance(asked, Tensor) else None,
        joined(torch.cat([part.gradients for part in parts])),
        {s: joined(torch.cat([part.maps[s] for part in parts])).log1p() for s in strides},
        len(copies),
    )


def _copies_at_once(copies: Tensor, levels: int) -> int:
    """Number of copies (n, B, 3, H, W) per pass, whatever the batch size; at least one."""
    if copies.device.type != "cpu":
        return len(copies)
    height, width = copies.shape[-2:]
    return max(1, _PIXELS_ON_CPU // (levels * height * width))


class _CopySignals(NamedTuple):
    """Signals of some copies; the first dimension of maps is copies x levels x images."""

    logits: Tensor
    gradients: Tensor
    maps: dict[int, Tensor]


def _signals_of_copies(
    copies: Tensor,
    baseline: Tensor,
    classifier: FrozenClassifier,
    target: Target | None,
    levels: Sequence[float],
) -> tuple[_CopySignals, Target]:
    """Signals of copies of images (n, B, 3, H, W), and the target to use for further copies."""
    views, mask = _blended(copies, baseline, levels)
    with tapped_features(classifier.network, views) as found:
        logits = as_logits(
            classifier.forward_uncompiled(views), classifier.output, views.shape[0]
        ).float()
    whole = logits.view(len(copies), len(levels), copies.shape[1], -1)[0, -1].detach()
    asked, score = _asked(target, whole, logits, classifier, len(copies) * len(levels))
    features = [candidate for candidates in found.values() for candidate in candidates]
    of_mask, of_features = _gradients(score, mask, [f.output for f in features], classifier)
    gradients = dict(zip(map(id, features), of_features, strict=True))
    last = _last_used.setdefault(classifier.network, {})
    maps = {}
    for stride, candidates in found.items():
        place = _place_of_last(candidates, gradients, last.get(stride))
        if place is not None:
            last[stride] = place
            maps[stride] = _contributions(candidates[place], gradients)
    return _CopySignals(whole, scaled(of_mask.flatten(0, 2))[:, None], maps), asked


def _gradients(
    score: Tensor, mask: Tensor, features: Sequence[Tensor], classifier: FrozenClassifier
) -> tuple[Tensor, Sequence[Tensor | None]]:
    """Gradients of scores (N,) with respect to mask and features; None for unused features.

    Raises:
        ValueError: If they cannot be computed, or the scores do not depend on the mask.
    """
    expected = f"Expected classifier {classifier.name} to have a gradient. Found"
    of_mask: Tensor | None = None
    of_features: Sequence[Tensor | None] = ()
    if score.requires_grad:
        try:
            of_mask, *of_features = torch.autograd.grad(
                score.sum(), [mask, *features], allow_unused=True
            )
        except RuntimeError as error:  # of a user's own network
            if is_out_of_memory(error):
                raise
            raise ValueError(f"{expected} an error ({described(error)}).") from error
    if of_mask is None:
        raise ValueError(f"{expected} none: is there no_grad, detach or numpy within it?")
    return of_mask, of_features


def _asked(
    target: Target | None,
    whole: Tensor,
    logits: Tensor,
    classifier: FrozenClassifier,
    views: int,
) -> tuple[Target, Tensor]:
    """Target as weights of the logits, (B, classes), and the score of all views, (N,).

    A target that computes the score itself has no weights, and is returned unchanged.
    """
    asked = classifier.decide(whole) if target is None else target
    if callable(asked):
        asked = asked(whole)
        if asked.ndim == 1:
            assert callable(target)
            return target, target(logits)
    if asked.shape != whole.shape:
        raise ValueError(
            f"Expected target, weights of the logits, to be {tuple(whole.shape)}. "
            f"Found {tuple(asked.shape)}."
        )
    weights = asked.to(whole)
    return weights, classifier.log_odds(logits, weights.repeat(views, 1))


def _blended(copies: Tensor, baseline: Tensor, levels: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Blend copies (n, B, 3, H, W) at all levels, (n x levels x B, 3, H, W); also their mask."""
    number, batch, _, height, width = copies.shape
    mask = copies.new_empty(number, len(levels), batch, height, width)
    for index, level in enumerate(levels):  # a tensor of the levels would wait for a GPU
        mask[:, index] = level
    mask.requires_grad_()
    views = torch.lerp(baseline, copies[:, None], mask.unsqueeze(3))  # as perturb does
    return views.flatten(0, 2), mask


def _place_of_last(
    candidates: Sequence[Features], gradients: Mapping[int, Tensor | None], known: int | None
) -> int | None:
    """Index of the last features that the score depends on; None if it depends on none.

    The gradient of the patch tokens is zero if the score depends only on a class token.

    Args:
        candidates: Features of a stride, in call order.
        gradients: Gradient of each, by its id; None where the score does not depend on it.
        known: Index found in an earlier pass, for tensors without values, as in an export.

    Raises:
        ValueError: If there are neither values nor an earlier pass.
    """
    for place in reversed(range(len(candidates))):
        gradient = gradients[id(candidates[place])]
        if gradient is None:
            continue
        if len(candidates) == 1:
            return place
        if isinstance(gradient, FakeTensor):
            if known is None:
                raise ValueError(
                    "Expected an explanation before the explainer of a transformer is traced, "
                    "which tells what its logits depend on. Found none."
                )
            return known
        if bool(candidates[place].as_map(gradient).any()):
            return place
    return None


def _contributions(features: Features, gradients: Mapping[int, Tensor | None]) -> Tensor:
    """Gradient times activation, reduced over channels, (N, 4, h, w), each map over its mean.

    The maps are the positive and the negative part of the sum over channels; Grad-CAM, with the
    gradient averaged over space (Selvaraju et al. 2017); and the norm of the activation.
    """
    of_output = gradients[id(features)]
    assert of_output is not None  # the score depends on these features
    gradient = features.as_map(of_output).float()  # without that of a class token
    activation = features.as_map(features.output.detach()).float()
    product = (gradient * activation).sum(1)
    cam = (gradient.mean((-2, -1), keepdim=True) * activation).sum(1)
    strength = activation.square().sum(1).sqrt()
    maps = torch.stack([product, -product, cam, strength], dim=1).relu_()
    mean = maps.mean((-2, -1), keepdim=True)
    return maps.div_(mean.clamp_min_(torch.finfo(maps.dtype).tiny))


def _over_copies(maps: Tensor, *, copies: int, levels: int) -> Tensor:
    """Mean and std over copies of maps (copies x levels x B, C, h, w): (B, 2LC, h, w)."""
    by_copy = maps.view(copies, levels, -1, *maps.shape[1:])
    if copies == 1:
        mean = by_copy[0].transpose(0, 1).flatten(1, 2)
        return torch.cat([mean, torch.zeros_like(mean)], dim=1)
    mean = by_copy.mean(0)
    # Tensor.std over the first dimension takes six times as long on a CPU.
    std = (by_copy - mean).square().sum(0).div(copies - 1).sqrt()
    joined = torch.stack([mean, std])
    return joined.permute(2, 0, 1, 3, 4, 5).flatten(1, 3)
