"""The report on an explainer's uncertainty, to which each check contributes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.verdicts import Verdict
from saliency_vae.metrics import Interval

Curves = Mapping[str, Mapping[str, list[float]]]


@dataclass(frozen=True)
class UncertaintyReport:
    """How good the uncertainty of an explainer is, compared with controls.

    Attributes:
        verdicts: Verdicts on the uncertainty of the explainer.
        intervals: Metric, then uncertainty, to its interval over images.
        curves: Figure to its lines by name; one of the lines holds the x values.
        roles: Uncertainty, or line of a figure, to its role.
        left_out: What was not measured and why, one sentence each.
    """

    verdicts: tuple[Verdict, ...] = ()
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def __add__(self, other: "UncertaintyReport") -> "UncertaintyReport":
        return UncertaintyReport(
            (*self.verdicts, *other.verdicts),
            {**self.intervals, **other.intervals},
            {**self.curves, **other.curves},
            {**self.roles, **other.roles},
            (*self.left_out, *other.left_out),
        )
