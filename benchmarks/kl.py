"""KL divergence in closed form against the dense Kronecker form and torch's MultivariateNormal.

python benchmarks/kl.py [--quick]
"""

from collections.abc import Callable

import torch
from timing import Report, arguments, interleaved, milliseconds, peak_mib, ratio
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from saliency_vae.distributions import DiagonalNormal, KroneckerNormal

RHO = 0.9
BATCH = 16
MOST_DENSE = 32  # pixels a side: the covariance of a map is (side^2, side^2)

KL = Callable[[Tensor, Tensor], Tensor]  # mean and log-variance (B, h, w) to nats (B,)


def correlation(n: int, device: torch.device) -> Tensor:
    """Correlation rho^|i-j|, (n, n), float64."""
    index = torch.arange(n, dtype=torch.float64, device=device)
    return RHO ** (index[:, None] - index).abs()


def closed(side: int, device: torch.device) -> KL:
    """Closed form of this package, O(hw)."""
    prior = KroneckerNormal(side, side, correlation=RHO, device=device)
    return lambda mean, eta: kl_divergence(DiagonalNormal(mean, eta), prior)


def dense_kronecker(side: int, device: torch.device) -> KL:
    """Equation 3 as printed, with the dense inverse of each factor."""
    inverse = torch.linalg.inv(correlation(side, device)).float()
    diagonal = inverse.diagonal()
    log_determinant = 2 * side * float(torch.logdet(correlation(side, device)))

    def kl(mean: Tensor, eta: Tensor) -> Tensor:
        trace = torch.einsum("i,bij,j->b", diagonal, eta.exp(), diagonal)
        quadratic = (mean * (inverse @ mean @ inverse)).sum((1, 2))
        return 0.5 * (trace + quadratic - side**2 + log_determinant - eta.sum((1, 2)))

    return kl


def multivariate_normal(side: int, device: torch.device) -> KL:
    """Divergence by torch, with the dense covariance of all pixels."""
    covariance = torch.kron(correlation(side, device), correlation(side, device)).float()
    prior = MultivariateNormal(torch.zeros(side**2, device=device), covariance)

    def kl(mean: Tensor, eta: Tensor) -> Tensor:
        scale = torch.diag_embed((eta.flatten(1) / 2).exp())
        return kl_divergence(MultivariateNormal(mean.flatten(1), scale_tril=scale), prior)

    return kl


def differentiated(kl: KL, mean: Tensor, eta: Tensor) -> Callable[[], object]:
    """Make a function that computes a divergence forward and backward."""
    return lambda: torch.autograd.grad(kl(mean, eta).sum(), (mean, eta))


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    device, rounds = options.device, 1 if options.quick else 15
    report = Report("kl", "KL divergence", device, options.quick)
    torch.manual_seed(0)
    for side in [12, 64] if options.quick else [32, 112, 224, 448]:
        mean = torch.randn(BATCH, side, side, device=device, requires_grad=True)
        eta = torch.randn(BATCH, side, side, device=device, requires_grad=True)
        forms = {
            "closed form": closed(side, device),
            "dense Kronecker": dense_kronecker(side, device),
        }
        if side <= MOST_DENSE:
            forms["MultivariateNormal"] = multivariate_normal(side, device)
        values = {name: kl(mean, eta).detach() for name, kl in forms.items()}
        functions = {name: differentiated(kl, mean, eta) for name, kl in forms.items()}
        times = interleaved(functions, device, rounds=rounds)
        exact = values["closed form"]
        report.tables[f"Forward and backward, batch {BATCH}, {side}x{side}, float32"] = [
            {
                "": name,
                "ms": milliseconds(times[name]),
                "x closed form": ratio(times[name], times["closed form"]),
                "peak MiB": peak_mib(functions[name], device),
                "relative difference": ((values[name] - exact) / exact).abs().max().item(),
            }
            for name in forms
        ]
    report.save(options.output)


if __name__ == "__main__":
    main()
