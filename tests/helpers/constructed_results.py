"""Scores of an evaluation whose every number is known, and results around them."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.metrics import Interval

IMAGES = 40
RUN_METADATA = {"classifier": "net", "data": "test images of toys", "protocol": "8 steps."}
_ROLES = {"explainer": Role.EXPLAINER, "random": Role.CONTROL, "oracle": Role.ORACLE}


def spread(mean: float, number: int = IMAGES) -> Tensor:
    """Values per image around a mean, the same deviations for every method."""
    return mean + torch.linspace(-0.05, 0.05, number)


def constructed(
    means: Mapping[str, Mapping[str, float]],
    *,
    seconds: Mapping[str, float] | None = None,
    roles: Mapping[str, Role] | None = None,
) -> Scores:
    """Scores of methods whose values differ by a constant in every image.

    Args:
        means: Metric, then method, to its mean.
        seconds: Method to its time; a millisecond by default.
        roles: Method to its role where its name does not give it.
    """
    methods = list(next(iter(means.values())))
    return Scores(
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
        roles={method: _ROLES.get(method, Role.RIVAL) for method in methods} | dict(roles or {}),
    )


def several() -> Scores:
    """Scores of the explainer, two rivals, a control and an oracle, not in the order of merit."""
    methods = {"random": 0.2, "explainer": 0.8, "oracle": 0.95, "rise": 0.7, "grad_cam": 0.6}
    return constructed(
        {
            "insertion": methods,
            "deletion": {method: 1 - mean for method, mean in methods.items()},
            "agreement_5": methods,
            "sparsity": dict.fromkeys(methods, 0.5) | {"rise": 0.9},
        },
        seconds={"explainer": 0.002, "oracle": 0.003, "rise": 0.9, "random": 1e-5},
    )


def with_values(scores: Scores, metric: str, **values: Tensor) -> Scores:
    """Replace the values of methods for one metric."""
    return replace(scores, values={**scores.values, metric: {**scores.values[metric], **values}})


def results(scores: Scores | None = None, **parts: object) -> Results:
    """Results of scores, :func:`several` by default; other parts as they are given."""
    given = {"run_metadata": RUN_METADATA, **parts}
    return Results(several() if scores is None else scores, **given)  # type: ignore[arg-type]


def uncertainty() -> UncertaintyReport:
    """Report on one uncertainty and one control, with the figures on pixels and on images."""
    half = Interval(*(torch.tensor(value) for value in (0.5, 0.4, 0.6)))
    lines = {"P(1-P)": [1.0, 0.5], "it": [1.0, 0.7], "oracle": [1.0, 0.1]}
    return UncertaintyReport(
        intervals={"spearman_top": {"P(1-P)": half, "it": half}, "ece": {"P(1-P)": half}},
        curves={
            "sparsification_top": {"removed": [0.0, 0.5], **lines},
            "sparsification_rank": {"removed": [0.0, 0.5], **lines},
            "selective": {"rejected": [0.0, 0.5], **lines},
            "reliability": {"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "share": [0.5, 0.5]},
        },
        roles={"P(1-P)": Role.EXPLAINER, "it": Role.CONTROL, "oracle": Role.ORACLE},
    )
