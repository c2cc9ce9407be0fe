"""Differentiable top-k: a saliency map in, a mask in [0, 1] whose entries sum to k out.

Entropic optimal transport of n scores onto {0, 1} (SOFT top-k, Xie et al. 2020) has the solution
``m = sigmoid((s - t) / temperature)``, where the scalar t solves ``sum(m) = k``. So no Sinkhorn
iteration is needed: a bracketing search finds t, and its gradient is implicit.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_MAX_ROUNDS = 60  # each at least halves the bracket, so this exceeds the resolution of float64
# Rounds before an accelerator is first checked for convergence, as each check waits for it. A batch
# of maps at the final temperature of training takes 5 or 6 rounds.
_UNASKED_ROUNDS = 5


class CDF(Protocol):
    """Cumulative distribution function of noise that is symmetric about 0."""

    def __call__(self, z: Tensor, /, *, out: Tensor) -> Tensor:
        """Write the probability below each entry of z to ``out``."""


@torch.no_grad()
def threshold(
    location: Tensor,
    scale: Tensor | float,
    k: Tensor | float,
    *,
    cdf: CDF,
    quantile: Callable[[Tensor], Tensor],
) -> Tensor:
    """Find t such that on average k of the n noisy scores ``location + scale * noise`` exceed t.

    Args:
        location: Scores without noise, (..., n).
        scale: Noise scale, > 0, broadcastable to (..., n).
        k: Expected number of scores above t, in [0, n], broadcastable to (...).
        cdf: Cumulative distribution function of the noise, which is symmetric about 0.
        quantile: Inverse of ``cdf``.

    Returns:
        Threshold t, (..., 1), at which ``cdf((location - t) / scale).sum(-1) = k``; no gradient.

    Example:
        >>> scores = torch.tensor([0.0, 1.0, 2.0])
        >>> threshold(scores, 0.1, 1.5, cdf=torch.sigmoid, quantile=torch.logit)
        tensor([1.])
    """
    n = location.shape[-1]
    k = torch.as_tensor(k, dtype=location.dtype, device=location.device).expand(location.shape[:-1])
    k = k.unsqueeze(-1)
    z = torch.empty_like(location)  # reused: allocating anew would take half of the time

    def excess(t: Tensor) -> Tensor:
        torch.sub(location, t, out=z).div_(scale)
        return cdf(z, out=z).sum(-1, keepdim=True) - k

    # At t = location - scale * quantile(k / n) an entry contributes exactly k / n: the smallest and
    # the largest of these t in a row bracket the solution.
    even = location - scale * quantile(k / n)
    low, high = even.amin(-1, keepdim=True), even.amax(-1, keepdim=True)
    return _decreasing_root(excess, low, high, 4 * torch.finfo(location.dtype).eps * k)


def _decreasing_root(
    function: Callable[[Tensor], Tensor], low: Tensor, high: Tensor, tolerance: Tensor
) -> Tensor:
    """Root of a decreasing function between low and high in every row, by Ridders' method.

    Each round at least halves the bracket, and usually does far better, because the tails of a sum
    of distribution functions are exponential. The search ends when every row's value is within
    its tolerance of 0.
    """
    at_low, at_high = function(low), function(high)
    t = low
    unasked = 0 if low.device.type == "cpu" else _UNASKED_ROUNDS - 1
    for round_ in range(_MAX_ROUNDS):
        middle = (low + high) / 2
        at_middle = function(middle)
        bend = (at_middle.square() - at_low * at_high).sqrt()
        t = middle + (middle - low) * at_middle / bend
        t = torch.where((t >= low) & (t <= high), t, middle)  # where bend is 0, or low infinite
        at_t = function(t)
        if round_ >= unasked:
            found = (at_t.abs() <= tolerance) | (middle <= low) | (middle >= high)
            if found.all():
                break
        for point, value in ((middle, at_middle), (t, at_t)):
            raises, lowers = value > 0, value <= 0  # both False for NaN
            low, at_low = torch.where(raises, point, low), torch.where(raises, value, at_low)
            high, at_high = torch.where(lowers, point, high), torch.where(lowers, value, at_high)
    return t


class _SoftTopK(torch.autograd.Function):
    """Sigmoid of scores minus threshold; saves one tensor for the backward pass."""

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
        """Implicit gradient ``w (g - sum(w g) / sum(w)) / temperature`` with ``w = m (1 - m)``."""
        (mask,) = ctx.saved_tensors
        weight = torch.addcmul(mask, mask, mask, value=-1)  # m (1 - m)
        total = weight.sum(-1, keepdim=True).clamp_min(torch.finfo(mask.dtype).tiny)
        shift = torch.linalg.vecdot(weight, grad).unsqueeze(-1) / total  # the threshold's gradient
        return torch.sub(grad, shift).mul_(weight).div_(ctx.temperature), None, None


def soft_topk(scores: Tensor, k: Tensor | float, *, temperature: float) -> Tensor:
    """Relax the indicator of the k largest scores to a mask in [0, 1] that sums to k.

    Time and memory are O(n); one tensor, the mask, is saved for the backward pass.

    Args:
        scores: Scores, (..., n), float32 or float64.
        k: Number of scores to select, in [0, n], not necessarily whole; broadcastable to (...).
        temperature: Softness of the selection, > 0, in units of the scores; towards 0 it becomes
            the hard top-k.

    Returns:
        Mask, (..., n), each row summing to k.

    Raises:
        ValueError: If k or temperature is out of range (a tensor k is not checked).

    Example:
        >>> mask = soft_topk(torch.tensor([0.0, 1.0, 3.0, 2.0]), k=2, temperature=0.5)
        >>> mask
        tensor([0.0474, 0.2689, 0.9526, 0.7311])
        >>> mask.sum()
        tensor(2.)
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
        scores: Scores, (..., n).
        k: Number of scores to mark, in [0, n].

    Returns:
        Boolean mask, (..., n), with exactly k true entries in each row, even with ties.

    Example:
        >>> hard_topk(torch.tensor([0.0, 1.0, 3.0, 2.0]), 2)
        tensor([False, False,  True,  True])
    """
    chosen = scores.topk(k, dim=-1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)


def num_kept(fraction: float, n: int) -> int:
    """Number of pixels in a fraction of n pixels, rounded, at least one.

    Args:
        fraction: Share of the pixels, in (0, 1].
        n: Number of pixels.

    Raises:
        ValueError: If the fraction is not in (0, 1].

    Example:
        >>> num_kept(0.1, 64)
        6
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"Expected 0 < fraction <= 1. Found {fraction}.")
    return max(1, round(fraction * n))


def top_pixels(maps: Tensor, fraction: float) -> Tensor:
    """Mark the given fraction of most salient pixels of each map.

    Args:
        maps: Maps, (..., H, W).
        fraction: Share of the pixels, in (0, 1].

    Returns:
        Boolean mask, (..., H, W).

    Example:
        >>> top_pixels(torch.tensor([[0.1, 0.9], [0.3, 0.2]]), fraction=0.25)
        tensor([[False,  True],
                [False, False]])
    """
    scores = maps.flatten(-2)
    mask = hard_topk(scores, num_kept(fraction, scores.shape[-1]))
    return mask.reshape(maps.shape)


class SoftTopK:
    """The paper's differentiable top-k operator over saliency maps, with k drawn for each image.

    Args:
        fraction: Range (low, high) of the kept fraction of pixels, 0 < low <= high <= 1; one is
            drawn log-uniformly for each image.
        temperature: Temperature of :func:`soft_topk` at the end of the annealing, > 0.
        straight_through: Use a hard mask of k pixels (rounded) in the forward pass, and the soft
            mask's gradient in the backward pass.
        initial_temperature: Temperature at the start of the annealing; None for no annealing. A
            high one lets the gradient reach every pixel until the sign of the map is settled.

    Raises:
        ValueError: If a fraction or a temperature is out of range.

    Example:
        >>> topk = SoftTopK(fraction=(0.25, 0.25), temperature=0.01)
        >>> topk(torch.tensor([[[0.1, 0.9], [0.3, 0.2]]])).round()
        tensor([[[0., 1.],
                 [0., 0.]]])
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
        self.initial_temperature = initial

    def annealed(self, progress: float) -> float:
        """Temperature at a point of the annealing, falling geometrically.

        Args:
            progress: 0 at the start of the annealing, 1 and beyond at its end.
        """
        remaining = max(0.0, 1 - progress)
        ratio = self.initial_temperature / self.temperature
        return float(self.temperature * ratio**remaining)

    def __call__(
        self,
        saliency: Tensor,
        *,
        temperature: float | None = None,
        uniform: Tensor | None = None,
    ) -> Tensor:
        """Turn saliency maps into masks.

        Args:
            saliency: Maps, (B, H, W).
            temperature: Temperature of the soft top-k; by default the final one.
            uniform: Random numbers in [0, 1] for the fractions, (B,) or (1,); drawn by default.

        Returns:
            Mask in [0, 1], (B, H, W).
        """
        return self.hardened(self.soft(saliency, temperature=temperature, uniform=uniform))

    def soft(
        self,
        saliency: Tensor,
        *,
        temperature: float | None = None,
        uniform: Tensor | None = None,
    ) -> Tensor:
        """Turn saliency maps into soft masks, whether or not they are hardened afterwards.

        Arguments and result are those of a call.
        """
        scores = saliency.flatten(1)
        low, high = self.fraction
        if uniform is None:
            uniform = torch.rand(len(scores), device=scores.device)
        if temperature is None:
            temperature = self.temperature
        fraction = low * (high / low) ** uniform
        mask = soft_topk(scores, fraction * scores.shape[1], temperature=temperature)
        return mask.view_as(saliency)

    def hardened(self, soft: Tensor) -> Tensor:
        """With ``straight_through``, mark the k largest entries of each mask, else change nothing.

        A cut at 1/2 would not mark k entries unless the temperature is far below the spread of the
        scores: in a flat map it would mark none.

        Args:
            soft: Soft masks (B, H, W), each of which sums to k.

        Returns:
            Masks of zeros and ones, (B, H, W), with the gradient of the soft ones.
        """
        if not self.straight_through:
            return soft
        mask = soft.flatten(1)
        kept = mask.detach().sum(1, keepdim=True).round().clamp_min(1)
        place = torch.arange(mask.shape[1], device=mask.device)
        largest_first = mask.argsort(1, descending=True)
        hard = torch.zeros_like(mask).scatter(1, largest_first, (place < kept).to(mask.dtype))
        return (hard + (mask - mask.detach())).view_as(soft)


def active_fraction(mask: Tensor) -> Tensor:
    """Mean share of the entries through which a soft top-k passes gradient: m (1 - m) > 0.01.

    Args:
        mask: Soft top-k masks, of any shape.

    Returns:
        Scalar in [0, 1]; near 0 the temperature is too low for the map to learn.

    Example:
        >>> active_fraction(torch.tensor([0.0, 0.5, 1.0, 0.9]))
        tensor(0.5000)
    """
    return (mask * (1 - mask) > 0.01).float().mean()
