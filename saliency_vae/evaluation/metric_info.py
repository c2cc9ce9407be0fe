"""Titles, directions and explanations of the metrics of an evaluation."""

from dataclasses import dataclass, replace

from saliency_vae.evaluation.wording import baseline_title


@dataclass(frozen=True)
class MetricInfo:
    """Title, direction and explanation of a metric.

    Attributes:
        title: Column heading.
        short: Column heading where there is little room.
        higher_is_better: Direction; None for a property that is neither good nor bad.
        explanation: One sentence that says what the metric measures.
        is_share: Whether it is a share of hits, each image being one or none.

    Example:
        >>> info = metric_info("insertion_zero")
        >>> info.title, info.arrow
        ('Insertion AUC over zero', '↑')
    """

    title: str
    short: str
    higher_is_better: bool | None
    explanation: str
    is_share: bool = False

    @property
    def arrow(self) -> str:
        """Arrow towards better values; empty for a property that is neither good nor bad."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]


_METRICS: dict[str, MetricInfo] = {
    "insertion": MetricInfo(
        "Insertion AUC",
        "ins",
        True,
        "Area under the curve of the probability of the decision while the pixels of the "
        "image, most salient first, are put into the baseline image.",
    ),
    "deletion": MetricInfo(
        "Deletion AUC",
        "del",
        False,
        "Area under the curve of the probability of the decision while the pixels of the "
        "image, most salient first, are replaced by those of the baseline image.",
    ),
    "srg": MetricInfo(
        "SRG",
        "srg",
        True,
        "Symmetric relevance gain: insertion AUC minus deletion AUC. How the classifier answers to "
        "the baseline image as such weighs less in it than in either of the two.",
    ),
    "pointing_game": MetricInfo(
        "Pointing game",
        "point",
        True,
        "Share of the images whose most salient pixel lies on the true object.",
        is_share=True,
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
    "two_objects_point": MetricInfo(
        "Pointing, two objects",
        "2pnt",
        True,
        "Share of the questions about one of two objects whose most salient pixel lies on the "
        "object asked about.",
        is_share=True,
    ),
    "two_objects_iou": MetricInfo(
        "IoU, two objects",
        "2IoU",
        True,
        "Intersection over union of the mask of the object asked about, one of two in the image, "
        "and as many most salient pixels.",
    ),
    "two_objects_share": MetricInfo(
        "Right of two objects",
        "2obj",
        True,
        "Of the positive attribution on two objects, the share on the one asked about; 0.5 is "
        "chance.",
    ),
    "grid_share": MetricInfo(
        "Grid pointing",
        "grid",
        True,
        "Grid pointing game: share of the positive attribution of a 2x2 grid of images that lies "
        "in the cell whose class is asked about; 0.25 is chance. Where a map has no zero of its "
        "own, what lies above its median counts as positive.",
    ),
    "grid_top": MetricInfo(
        "Grid, top 10 %",
        "gtop",
        True,
        "Share of the 10 % most salient pixels of a 2x2 grid of images that lies in the cell whose "
        "class is asked about; 0.25 is chance.",
    ),
    "grid_cell": MetricInfo(
        "Grid, right cell",
        "gcell",
        True,
        "Share of the questions about a 2x2 grid of images for which the cell with most of the "
        "positive attribution is the one whose class is asked about; 0.25 is chance.",
        is_share=True,
    ),
    "eval_x": MetricInfo(
        "EVAL-X",
        "evX",
        True,
        "Share of the images whose decision a copy of the classifier, tuned on random masks, finds "
        "in the most salient pixels alone: a mask cannot pass on the class by its shape.",
        is_share=True,
    ),
    "sparsity": MetricInfo(
        "Sparsity", "Gini", None, "Gini index of the map, which is neither good nor bad by itself."
    ),
    "own_mask": MetricInfo(
        "Own mask",
        "own",
        True,
        "Agreement at 10 % kept with an image's own mask, minus the mean agreement with the masks "
        "of other images. A mask that does not depend on its image gains nothing.",
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
    "aurc_top": MetricInfo(
        "AURC, top 10 %",
        "",
        False,
        "Area under the error-coverage curve: that error among the pixels that are left as the "
        "most uncertain ones are withheld, mean over 0 to 95 % withheld.",
    ),
    "aurc_rank": MetricInfo(
        "AURC, rank",
        "",
        False,
        "Area under the error-coverage curve: distance in rank, as a share of the pixels, among "
        "those that are left as the most uncertain ones are withheld.",
    ),
    "passes": MetricInfo(
        "Passes",
        "",
        False,
        "Passes of the classifier that the uncertainty takes for one image: once forward, or once "
        "forward and back, is one pass. Conformal regions need independent runs of other images "
        "before.",
    ),
    "covered": MetricInfo(
        "Covered",
        "",
        None,
        "Share of the pixels whose right rank lies in its conformal region, which promises 80 %.",
    ),
    "ece": MetricInfo(
        "ECE",
        "",
        False,
        "Calibration error of the probability that a pixel is among the 10 % most salient; 0 is "
        "perfect.",
    ),
    "ece_undecided": MetricInfo(
        "ECE, undecided pixels",
        "",
        False,
        "The same among the pixels whose probability is between 0.05 and 0.95.",
    ),
    "auroc": MetricInfo(
        "AUROC of failure",
        "",
        True,
        "How well the uncertainty predicts which images change their decision when only 5 % of the "
        "pixels are kept; 1 is perfect, 0.5 is chance.",
    ),
}


# Metrics at the share of the pixels that was asked, over the first baseline image.
_AT_FRACTION = {
    "sufficiency": MetricInfo(
        "Sufficiency",
        "suff",
        True,
        "Probability of the decision when only the most salient pixels, this share, are kept.",
    ),
    "necessity": MetricInfo(
        "Necessity",
        "nec",
        True,
        "Drop in the probability of the decision when the most salient pixels, this share, are "
        "replaced.",
    ),
    "lost": MetricInfo(
        "Decision lost",
        "lost",
        True,
        "Share of the images whose decision changes when the most salient pixels, this share, are "
        "replaced.",
        is_share=True,
    ),
}
_OVER_BASELINES = ("insertion", "deletion", "srg")  # names that a baseline image may follow


def metric_info(metric: str) -> MetricInfo:
    """Describe a metric.

    ``insertion_zero`` is insertion over the baseline image ``zero``, ``agreement_5`` is the
    agreement when 5 % of the pixels are kept, and ``necessity_5`` the necessity of these pixels.
    """
    if metric in _METRICS:
        return _METRICS[metric]
    kind, _, rest = metric.partition("_")
    if kind == "agreement":
        return _agreement(rest)
    if kind in _AT_FRACTION:
        return replace(_AT_FRACTION[kind], title=f"{_AT_FRACTION[kind].title} {rest} %")
    if kind == "samples":
        return _samples(*rest.split("_", 2))
    if kind == "swap":
        return _swap(*rest.split("_", 1))
    first, baseline = _METRICS[kind], baseline_title(rest)
    return replace(
        first,
        title=f"{first.title} over {baseline}",
        short=f"{first.short} {baseline}",
        explanation=f"{first.title} where {baseline} takes the place of removed pixels.",
    )


def _agreement(percent: str) -> MetricInfo:
    return MetricInfo(
        f"Agreement {percent} %",
        f"{percent}%",
        True,
        f"Share of the images whose decision stays the same when only the {percent} % most salient "
        "pixels are kept.",
        is_share=True,
    )


def _samples(measured: str, condition: str, baseline: str) -> MetricInfo:
    """Describe a metric of sampled maps, such as ``samples_kept_25_blur``."""
    maps = "as drawn" if condition == "unscaled" else f"{condition} % changed"
    where = f"{maps}, over {baseline_title(baseline)}"
    scaled = "" if condition == "unscaled" else f", scaled to change {condition} % of the kept set"
    among = f" for maps drawn about the mean{scaled}, among images whose mean map keeps it."
    return {
        "kept": MetricInfo(f"Kept, {where}", "", True, f"Share of decisions that stay{among}"),
        "probability": MetricInfo(
            f"Probability, {where}", "", True, f"Mean probability of the decision{among}"
        ),
        "necessity": MetricInfo(
            f"Necessity, {where}",
            "",
            True,
            f"Mean drop in the probability of the decision when the kept set is replaced,{among}",
        ),
        "changed": MetricInfo(
            f"Changed, {where}",
            "",
            None,
            f"Share of the mean map's kept set that maps drawn about it replace{scaled}.",
        ),
    }[measured]


def _swap(order: str, baseline: str) -> MetricInfo:
    """Describe a metric of the swap test: ``swap_all_blur`` or ``swap_matched_blur``."""
    matched = ", at equal saliency" if order == "matched" else ""
    return MetricInfo(
        f"Swaps over {baseline_title(baseline)}{matched}",
        "",
        True,
        "Rank correlation of a patch's uncertainty with how little the log-odds of the decision "
        "change when the patch is swapped in or out of the kept view"
        + (", within pairs of patches of neighbouring rank of saliency" if matched else "")
        + "; 1 is perfect, 0 is chance.",
    )


def baseline_of(metric: str) -> str:
    """Baseline image named by a metric; empty if it names none.

    Example:
        >>> baseline_of("srg_light_blur"), baseline_of("srg"), baseline_of("agreement_5")
        ('light_blur', '', '')
    """
    kind, _, baseline = metric.partition("_")
    return baseline if kind in _OVER_BASELINES else ""


def over(kind: str, baseline: str) -> str:
    """Name ``insertion``, ``deletion`` or ``srg`` over a baseline image; "" is the first one.

    Example:
        >>> over("srg", "zero"), over("srg", "")
        ('srg_zero', 'srg')
    """
    return f"{kind}_{baseline}" if baseline else kind


def is_agreement(metric: str) -> bool:
    """Whether a metric is the agreement at a share of the pixels, such as ``agreement_5``."""
    return metric.startswith("agreement_")
