"""TODO."""

import re
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class MetricInfo:
    """A metric, as tables name it.

    Attributes:
        title: Column heading.
        short: The same where there is little room.
        higher_is_better: Direction; None for a property that is no merit.
        explanation: What it measures, one sentence.
    """

    title: str
    short: str
    higher_is_better: bool | None
    explanation: str

    @property
    def arrow(self) -> str:
        """Where the better values are."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_METRICS: dict[str, MetricInfo] = {
    "insertion": MetricInfo(
        "Insertion AUC",
        "ins",
        True,
        "Probability of the predicted class while pixels are put into the baseline, most salient "
        "first; area under the curve.",
    ),
    "deletion": MetricInfo(
        "Deletion AUC", "del", False, "The same while pixels are taken away from the image."
    ),
    "agreement_5": MetricInfo(
        "Agreement 5 %",
        "5%",
        True,
        "Share of the images whose decision stays when only 5 % of the pixels are kept.",
    ),
    "agreement_10": MetricInfo("Agreement 10 %", "10%", True, "The same with 10 % kept."),
    "agreement_20": MetricInfo("Agreement 20 %", "20%", True, "The same with 20 % kept."),
    "pointing_game": MetricInfo(
        "Pointing game",
        "point",
        True,
        "Share of the images whose most salient pixel lies on the true object.",
    ),
    "iou": MetricInfo(
        "IoU",
        "IoU",
        True,
        "Intersection over union of the true mask and as many most salient pixels.",
    ),
    "relevance_mass": MetricInfo(
        "Relevance mass", "mass", True, "Share of the positive saliency that lies on the true mask."
    ),
    "relevance_rank": MetricInfo(
        "Relevance rank",
        "rank",
        True,
        "Share of the true mask among as many most salient pixels.",
    ),
    "sparsity": MetricInfo(
        "Sparsity", "Gini", None, "Gini index of the map: a property, not a merit."
    ),
    "own_mask": MetricInfo(
        "Own mask",
        "own",
        True,
        "Agreement when 10 % are kept, less the agreement when the other images' masks are laid "
        "over the image: a mask that carries the class by its shape gains nothing.",
    ),
    "infidelity": MetricInfo(
        "Infidelity",
        "infid",
        False,
        "Captum's: how far the map is from predicting what noise does to the probability.",
    ),
    "sensitivity": MetricInfo(
        "Max-sensitivity",
        "sens",
        False,
        "Captum's: how much the map changes under noise too small to see.",
    ),
}
# On uncertainties, held against independent runs.
_METRICS |= {
    "spearman_top": MetricInfo(
        "Spearman, top 10 %",
        "",
        True,
        "Whether the uncertain pixels are those wrongly taken for one of the top 10 %, or not; "
        "1 is perfect, 0 chance.",
    ),
    "ause_top": MetricInfo(
        "AUSE, top 10 %",
        "",
        False,
        "Area between the sparsification curves of the uncertainty and of that error; 0 is "
        "perfect.",
    ),
    "spearman_rank": MetricInfo(
        "Spearman, rank",
        "",
        True,
        "Whether the uncertain pixels are those whose rank is far off, which weighs the whole "
        "background; 1 is perfect, 0 chance.",
    ),
    "ause_rank": MetricInfo("AUSE, rank", "", False, "The same area for the error of the rank."),
    "ece": MetricInfo(
        "ECE",
        "",
        False,
        "Calibration error of the probability to be among the top 10 %; 0 is perfect.",
    ),
    "auroc": MetricInfo(
        "AUROC of failure",
        "",
        True,
        "Whether the uncertain images are those that decide otherwise when 5 % of the pixels are "
        "kept; 1 is perfect, 0.5 chance.",
    ),
}
_TITLES = {
    "grad_cam": "Grad-CAM",
    "input_x_gradient": "input x gradient",
    "rise": "RISE",
    "smoothgrad": "SmoothGrad",
    "vargrad": "VarGrad",
    "per_image": "per-image optimisation",
}


def metric_info(metric: str) -> MetricInfo:
    """Describe a metric; ``insertion_zero`` is insertion over another baseline than the first."""
    if metric in _METRICS:
        return _METRICS[metric]
    kind, _, removal = metric.partition("_")
    removal = removal.replace("_", " ")
    of_first = _METRICS[kind]
    return replace(
        of_first,
        title=f"{of_first.title} ({removal})",
        short=f"{of_first.short} {removal}",
        explanation=f"{of_first.title} over the {removal} baseline.",
    )


def over_another_removal(metric: str) -> bool:
    """Whether a metric is insertion or deletion over another baseline than the first."""
    return metric.startswith(("insertion_", "deletion_"))


def title(method: str) -> str:
    """Name a method as people write it."""
    return _TITLES.get(method, method.replace("_", " "))


def short(value: float) -> str:
    """Write a number as short as it can be read: .948, or .0021 where that would be .002."""
    digits = f"{value:.2g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
    return re.sub(r"^(-?)0\.", r"\1.", digits)


def three_digits(value: float) -> str:
    """Write a positive number with three digits that count, and no exponent."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")
