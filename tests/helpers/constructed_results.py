"""Results of an evaluation whose every number is known."""

from collections.abc import Mapping

import torch
from torch import Tensor

from saliency_vae.evaluation.results import Results

IMAGES = 40


def spread(mean: float, number: int = IMAGES) -> Tensor:
    """Values per image around a mean, the same deviations for every method."""
    return mean + torch.linspace(-0.05, 0.05, number)


def constructed(
    means: Mapping[str, Mapping[str, float]], *, seconds: Mapping[str, float] | None = None
) -> Results:
    """Results of methods whose values differ by a constant in every image.

    Args:
        means: Metric, then method, to its mean.
        seconds: Method to its time; a millisecond by default.
    """
    methods = list(next(iter(means.values())))
    results = Results(
        values={
            metric: {method: spread(mean) for method, mean in by_method.items()}
            for metric, by_method in means.items()
        },
        curves={
            kind: {method: torch.rand(IMAGES, 9) for method in methods}
            for kind in ("insertion", "deletion")
        },
        seconds=dict.fromkeys(methods, 0.001) | dict(seconds or {}),
        memory=dict.fromkeys(methods, 2.0**20),
        about={"classifier": "net", "data": "test images of toys", "protocol": "8 steps."},
    )
    results.oracles = {method for method in methods if method == "oracle"}
    results.controls = {method for method in methods if method in ("oracle", "random")}
    return results


def several() -> Results:
    """Ours, two others and two controls, in an order that is not that of their merit."""
    methods = {"random": 0.2, "ours": 0.8, "oracle": 0.95, "rise": 0.7, "grad_cam": 0.6}
    return constructed(
        {
            "insertion": methods,
            "deletion": {method: 1 - mean for method, mean in methods.items()},
            "agreement_5": methods,
            "sparsity": dict.fromkeys(methods, 0.5) | {"rise": 0.9},
        },
        seconds={"ours": 0.002, "oracle": 0.003, "rise": 0.9, "random": 1e-5},
    )
