"""Soft top-k, forward and backward, against Sinkhorn, LapSum and torch.topk.

python benchmarks/topk.py [--quick]
"""

from collections.abc import Callable
from typing import Any

import torch
from timing import Report, Target, arguments, interleaved, milliseconds, peak_mib, ratio
from torch import Tensor

from saliency_vae.topk import soft_topk

TEMPERATURE = 0.03
FRACTION = 0.1


def sinkhorn_topk(scores: Tensor, k: float, iterations: int = 200) -> Tensor:
    """SOFT top-k of scores (B, n) as published: log-domain Sinkhorn, differentiated by autograd."""
    targets = scores.new_tensor([0.0, 1.0])
    log_kernel = -(scores.unsqueeze(-1) - targets).square() / 2 / TEMPERATURE
    n = scores.shape[-1]
    log_columns = scores.new_tensor([n - k, k]).log()
    v = torch.zeros(len(scores), 1, 2, device=scores.device)
    for _ in range(iterations):
        u = -torch.logsumexp(log_kernel + v, dim=2, keepdim=True)
        v = log_columns - torch.logsumexp(log_kernel + u, dim=1, keepdim=True)
    u = -torch.logsumexp(log_kernel + v, dim=2, keepdim=True)
    return (log_kernel + u + v)[..., 1].exp()


class LapSum(torch.autograd.Function):
    """LapSum (2025): Laplace distribution functions that sum to k, solved by sorting."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: float) -> Tensor:
        """Soft top-k of scores (B, n)."""
        s = scores.sort(-1, descending=True).values / TEMPERATURE
        above = torch.logcumsumexp(-s, -1)  # log sum of exp(-s) of the first j
        below = torch.logcumsumexp(s.flip(-1), -1).flip(-1).roll(-1, -1)  # of exp(s) of the rest
        below[:, -1] = -torch.inf
        count = torch.arange(1, s.shape[-1] + 1, device=s.device)
        at_score = count - (s + above).exp() / 2 + (below - s).exp() / 2
        j = (at_score < k).sum(-1, keepdim=True).clamp(1, s.shape[-1] - 1)
        a, b = above.gather(-1, j - 1), below.gather(-1, j - 1)
        t = (b - a) / 2 - torch.asinh((k - j) * torch.exp(-(a + b) / 2))
        z = scores / TEMPERATURE - t
        tail = torch.exp(-z.abs()) / 2
        ctx.save_for_backward(tail)
        return torch.where(z > 0, 1 - tail, tail)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Implicit gradient; the density of a Laplace distribution equals its tail."""
        (weight,) = ctx.saved_tensors
        shift = (weight * grad).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
        return weight * (grad - shift) / TEMPERATURE, None


def differentiated(
    function: Callable[[Tensor, float], Tensor], scores: Tensor
) -> Callable[[], Tensor]:
    """Make a function that runs a soft top-k forward and backward."""
    leaf = scores.clone().requires_grad_()
    grad = torch.randn_like(scores)
    k = FRACTION * scores.shape[-1]
    return lambda: torch.autograd.grad(function(leaf, k), leaf, grad)[0]


def exact_topk(scores: Tensor, k: float) -> Tensor:
    """This package's soft top-k of scores (B, n)."""
    return soft_topk(scores, k, temperature=TEMPERATURE)


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    device, batch = options.device, 2 if options.quick else 16
    side, rounds = (32, 1) if options.quick else (224, 15)
    torch.manual_seed(0)
    scores = torch.randn(batch, side * side, device=device)
    k = int(FRACTION * scores.shape[-1])
    report = Report("topk", "Soft top-k", device, options.quick)

    functions: dict[str, Callable[[], object]] = {
        "soft_topk": differentiated(exact_topk, scores),
        "LapSum (sort)": differentiated(LapSum.apply, scores),
        "Sinkhorn, 200 iterations": differentiated(sinkhorn_topk, scores),
        "torch.topk, forward": lambda: scores.topk(k, -1),
    }
    fast = {name: f for name, f in functions.items() if "Sinkhorn" not in name}
    times = interleaved(fast, device, rounds=rounds)
    slow = interleaved(
        {name: functions[name] for name in ("soft_topk", "Sinkhorn, 200 iterations")},
        device,
        rounds=1 if options.quick else 3,
    )
    for function in (exact_topk, LapSum.apply, sinkhorn_topk):  # all three solve the same problem
        assert torch.allclose(function(scores, k).sum(-1), scores.new_tensor(k), rtol=1e-3)
    memory = {name: peak_mib(function, device) for name, function in functions.items()}
    sinkhorn, floor = "Sinkhorn, 200 iterations", "torch.topk, forward"
    own = times["soft_topk"]
    report.tables[f"Forward and backward, batch {batch}, n = {side}^2, float32"] = [
        {
            "": name,
            "ms": milliseconds(times.get(name, slow.get(name, []))),
            "x soft_topk": ratio(
                *((times[name], own) if name in fast else (slow[name], slow["soft_topk"]))
            ),
            "peak MiB": memory[name],
        }
        for name in functions
    ]
    report.targets = [
        Target(
            "Sinkhorn-200 / soft_topk, time", ratio(slow[sinkhorn], slow["soft_topk"]), at_least=20
        ),
        Target(
            "Sinkhorn-200 / soft_topk, memory", memory[sinkhorn] / memory["soft_topk"], at_least=50
        ),
        Target("soft_topk / torch.topk, time", ratio(own, times[floor]), at_most=4),
    ]

    sides = [side // 2, side, 2 * side]
    growing = [torch.randn(batch, s * s, device=device) for s in sides]
    times = interleaved(
        {f"{s}^2": differentiated(exact_topk, x) for s, x in zip(sides, growing, strict=True)},
        device,
        rounds=rounds,
    )
    first = times[f"{sides[0]}^2"]
    report.tables["Growth with the number of pixels"] = [
        {
            "n": f"{s}^2",
            "ms": milliseconds(times[f"{s}^2"]),
            "time, x the smallest": ratio(times[f"{s}^2"], first),
            "pixels, x the smallest": (s / sides[0]) ** 2,
            "peak MiB": peak_mib(differentiated(exact_topk, x), device),
        }
        for s, x in zip(sides, growing, strict=True)
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
