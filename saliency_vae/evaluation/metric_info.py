"""The metrics of an evaluation, as tables name and explain them."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class MetricInfo:
    """Title, direction and explanation of a metric.

    Attributes:
        title: Column heading.
        short: Column heading where there is little room.
        higher_is_better: Direction; None for a property that is neither good nor bad.
        explanation: One sentence that says what the metric measures.

    Example:
        >>> info = metric_info("insertion_zero")
        >>> info.title, info.arrow
        ('Insertion AUC over zero', '↑')
    """

    title: str
    short: str
    higher_is_better: bool | None
    explanation: str

    @property
    def arrow(self) -> str:
        """Arrow towards better values; empty for a property that is neither good nor bad."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_METRICS: dict[str, MetricInfo] = {
    "insertion": MetricInfo(
        "Insertion AUC",
        "ins",
        True,
        "Area under the curve of the probability of the predicted class while the pixels of the "
        "image, most salient first, are put into the baseline image.",
    ),
    "deletion": MetricInfo(
        "Deletion AUC",
        "del",
        False,
        "Area under the curve of the probability of the predicted class while the pixels of the "
        "image, most salient first, are replaced by those of the baseline image.",
    ),
    "agreement_5": MetricInfo(
        "Agreement 5 %",
        "5%",
        True,
        "Share of the images whose decision stays the same when only the 5 % most salient pixels "
        "are kept.",
    ),
    "agreement_10": MetricInfo(
        "Agreement 10 %",
        "10%",
        True,
        "Share of the images whose decision stays the same when only the 10 % most salient pixels "
        "are kept.",
    ),
    "agreement_20": MetricInfo(
        "Agreement 20 %",
        "20%",
        True,
        "Share of the images whose decision stays the same when only the 20 % most salient pixels "
        "are kept.",
    ),
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
        "Share of the true mask that is among as many most salient pixels.",
    ),
    "sparsity": MetricInfo(
        "Sparsity", "Gini", None, "Gini index of the map, which is neither good nor bad by itself."
    ),
    "own_mask": MetricInfo(
        "Own mask",
        "own",
        True,
        "Agreement at 10 % kept with an image's own mask, minus the mean agreement with the masks "
        "of other images. A mask that carries the class by its shape gains nothing.",
    ),
    "infidelity": MetricInfo(
        "Infidelity",
        "infid",
        False,
        "Captum's infidelity: squared error of the map as a prediction of how noise changes the "
        "probability.",
    ),
    "sensitivity": MetricInfo(
        "Max-sensitivity",
        "sens",
        False,
        "Captum's max-sensitivity: largest relative change of the map under noise that is too "
        "small to see.",
    ),
}
# Metrics of uncertainties. Errors are differences from independent runs.
_METRICS |= {
    "spearman_top": MetricInfo(
        "Spearman, top 10 %",
        "",
        True,
        "Rank correlation of the uncertainty with the error of being wrongly in or out of the 10 % "
        "most salient pixels; 1 is perfect, 0 is chance.",
    ),
    "ause_top": MetricInfo(
        "AUSE, top 10 %",
        "",
        False,
        "Area between the sparsification curves of the uncertainty and of that error itself; 0 is "
        "perfect.",
    ),
    "spearman_rank": MetricInfo(
        "Spearman, rank",
        "",
        True,
        "Rank correlation of the uncertainty with the distance of a pixel from its right rank, to "
        "which the background contributes most; 1 is perfect, 0 is chance.",
    ),
    "ause_rank": MetricInfo(
        "AUSE, rank",
        "",
        False,
        "Area between the sparsification curves of the uncertainty and of the distance in rank; 0 "
        "is perfect.",
    ),
    "ece": MetricInfo(
        "ECE",
        "",
        False,
        "Calibration error of the probability that a pixel is among the 10 % most salient; 0 is "
        "perfect.",
    ),
    "auroc": MetricInfo(
        "AUROC of failure",
        "",
        True,
        "How well the uncertainty predicts which images change their decision when only 5 % of the "
        "pixels are kept; 1 is perfect, 0.5 is chance.",
    ),
}


def metric_info(metric: str) -> MetricInfo:
    """Describe a metric; ``insertion_zero`` is insertion over the baseline image ``zero``."""
    if metric in _METRICS:
        return _METRICS[metric]
    kind, _, baseline_image = metric.partition("_")
    baseline_image = baseline_image.replace("_", " ")
    first = _METRICS[kind]
    return replace(
        first,
        title=f"{first.title} over {baseline_image}",
        short=f"{first.short} {baseline_image}",
        explanation=f"{first.title} with the baseline image {baseline_image}.",
    )


def has_own_baseline_image(metric: str) -> bool:
    """Whether a metric is insertion or deletion over another baseline image than the first."""
    return metric.startswith(("insertion_", "deletion_"))
