"""Differentiable top-k: a saliency map in, a mask whose entries sum to k out.

Entropic optimal transport of n scores onto {0, 1} (SOFT top-k, Xie et al. 2020) has the solution
``m = sigmoid((s - t) / temperature)`` with the one scalar ``t`` for which ``sum(m) = k``. So no
Sinkhorn iteration is needed: ``t`` is found by bracketing and differentiated implicitly.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROUNDS = 60  # each halves the bracket at least: beyond the resolution of float64


class Distribution(Protocol):
    """Distribution function of a noise symmetric about 0, elementwise, into ``out``."""

    def __call__(self, z: Tensor, /, *, out: Tensor) -> Tensor:
        """Probability below each entry of z."""


@torch.no_grad()
def threshold(
    location: Tensor,
    scale: Tensor | float,
    k: Tensor | float,
    *,
    cdf: Distribution,
    quantile: Callable[[Tensor], Tensor],
) -> Tensor:
    """Find t such that k of the n noisy scores ``location + scale * noise`` exceed t on average.

    Ridders' method: each round halves the bracket at least, and mostly does far better, for the
    tails of the sum are exponential. An error in the sum bounds the error of every probability.

    Args:
        location: Scores, (..., n).
        scale: Noise scale, > 0, broadcastable to (..., n).
        k: Expected number above t, in [0, n], broadcastable to (...).
        cdf: Distribution function of the noise, which must be symmetric about 0.
        quantile: Its inverse.

    Returns:
        Threshold t, (..., 1), at which ``cdf((location - t) / scale).sum(-1) = k``; no gradient.
    """
    n = location.shape[-1]
    k = torch.as_tensor(k, dtype=location.dtype, device=location.device).expand(location.shape[:-1])
    k = k.unsqueeze(-1)
    tolerance = 4 * torch.finfo(location.dtype).eps * k
    z = torch.empty_like(location)  # one buffer: allocating anew would take half of the time

    def excess(t: Tensor) -> Tensor:
        torch.sub(location, t, out=z).div_(scale)
        return cdf(z, out=z).sum(-1, keepdim=True) - k

    # At t = location - scale * quantile(k / n) an entry contributes k / n exactly: the extremes of
    # that over the row bracket the solution.
    contribution = location - scale * quantile(k / n)
    low, high = contribution.amin(-1, keepdim=True), contribution.amax(-1, keepdim=True)
    too_many, too_few = excess(low), excess(high)
    t = low
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        at_middle = excess(middle)
        bend = (at_middle.square() - too_many * too_few).sqrt()
        t = middle + (middle - low) * at_middle / bend
        t = torch.where((t >= low) & (t <= high), t, middle)  # where bend is 0, or low infinite
        at_t = excess(t)
        if ((at_t.abs() <= tolerance) | (middle <= low) | (middle >= high)).all():
            break
        for point, value in ((middle, at_middle), (t, at_t)):
            raises = (value > 0) & (point > low)
            lowers = (value <= 0) & (point < high)
            low, too_many = torch.where(raises, point, low), torch.where(raises, value, too_many)
            high, too_few = torch.where(lowers, point, high), torch.where(lowers, value, too_few)
    return t


class _SoftTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: Tensor | float, temperature: float) -> Tensor:
        t = threshold(scores, temperature, k, cdf=torch.sigmoid, quantile=torch.logit)
        mask = torch.sub(scores, t).div_(temperature).sigmoid_()
        ctx.save_for_backward(mask)
        ctx.temperature = temperature
        return mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        weight = torch.addcmul(mask, mask, mask, value=-1)  # m (1 - m)
        total = weight.sum(-1, keepdim=True).clamp_min(torch.finfo(mask.dtype).tiny)
        shift = torch.linalg.vecdot(weight, grad).unsqueeze(-1) / total  # the threshold follows
        return torch.sub(grad, shift).mul_(weight).div_(ctx.temperature), None, None


def soft_topk(scores: Tensor, k: Tensor | float, *, temperature: float) -> Tensor:
    """Relax the indicator of the k largest scores to a mask in [0, 1] that sums to k.

    Time and memory are O(n); the backward pass keeps one tensor, the mask.

    Args:
        scores: (..., n), float32 or float64.
        k: Number to select, in [0, n], not necessarily whole; broadcastable to (...).
        temperature: > 0, in units of the scores; the hard top-k in the limit 0.

    Returns:
        Mask, (..., n), each row summing to k.

    Raises:
        ValueError: If k or temperature is out of range (a tensor k is not checked).
    """
    n = scores.shape[-1]
    if not isinstance(k, Tensor) and not 0 <= k <= n:
        raise ValueError(f"Expected 0 <= k <= {n}, the number of scores. Found k={k}.")
    if not temperature > 0:
        raise ValueError(f"Expected temperature > 0. Found {temperature}.")
    mask: Tensor = _SoftTopK.apply(scores, k, temperature)
    return mask


def hard_topk(scores: Tensor, k: int) -> Tensor:
    """Mark exactly the k largest scores of each row.

    Args:
        scores: (..., n).
        k: Number to select, in [0, n].

    Returns:
        Boolean mask, (..., n), each row with k true entries, whatever the ties.
    """
    chosen = scores.topk(k, dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)


def num_kept(fraction: float, n: int) -> int:
    """Whole number of pixels in a fraction of n, at least one.

    Raises:
        ValueError: If the fraction is not in (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"Expected 0 < fraction <= 1. Found {fraction}.")
    return max(1, round(fraction * n))


class SoftTopK:
    """The paper's differentiable top-k operator over saliency maps, k drawn per image.

    Args:
        fraction: Range (low, high) of the kept fraction of pixels, 0 < low <= high <= 1; one is
            drawn log-uniformly for each image.
        temperature: See :func:`soft_topk`.
        straight_through: Use the hard mask forward and the soft mask's gradient backward.
        initial_temperature: Where :meth:`anneal` starts; None for the temperature itself. A high
            one lets the gradient reach every pixel until the map's sign is settled.
    """

    def __init__(
        self,
        fraction: tuple[float, float] = (0.05, 0.3),
        temperature: float = 0.03,
        straight_through: bool = False,
        initial_temperature: float | None = None,
    ) -> None:
        low, high = fraction
        if not 0 < low <= high <= 1:
            raise ValueError(f"Expected 0 < low <= high <= 1 in topk.fraction. Found {fraction}.")
        initial = temperature if initial_temperature is None else initial_temperature
        if not 0 < temperature <= initial:
            raise ValueError(
                "Expected 0 < topk.temperature <= topk.initial_temperature. "
                f"Found {temperature} and {initial}."
            )
        self.fraction = (low, high)
        self.straight_through = straight_through
        self.temperature = temperature
        self._final, self._initial = temperature, initial

    def anneal(self, progress: float) -> None:
        """Set the temperature: geometrically from the initial one to the final one.

        Args:
            progress: Of the annealing; 0 at its start, 1 and beyond at its end.
        """
        remaining = max(0.0, 1 - progress)
        self.temperature = self._final * (self._initial / self._final) ** remaining

    def __call__(self, saliency: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Mask saliency maps.

        Args:
            saliency: (B, H, W).
            uniform: Numbers in [0, 1] that draw the fractions, (B,) or (1,); torch's by default.

        Returns:
            Mask in [0, 1], (B, H, W).
        """
        scores = saliency.flatten(1)
        low, high = self.fraction
        if uniform is None:
            uniform = torch.rand(len(scores), device=scores.device)
        fraction = low * (high / low) ** uniform
        mask = soft_topk(scores, fraction * scores.shape[1], temperature=self.temperature)
        if self.straight_through:
            hard = (mask >= 0.5).to(mask.dtype)  # the same threshold: m = 1/2 where s = t
            mask = hard + (mask - mask.detach())
        return mask.view_as(saliency)


def active_fraction(mask: Tensor) -> Tensor:
    """Mean share of entries through which a soft top-k passes gradient, ``m (1 - m) > 0.01``."""
    return (mask * (1 - mask) > 0.01).float().mean()
