"""The baseline images that metrics were measured over, and whether training used them."""

from saliency_vae.evaluation.metric_info import baseline_of, over
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import baseline_title


def further_baselines(scores: Scores) -> list[str]:
    """Names of all baseline images but the first, from the names of the metrics.

    Example:
        >>> further_baselines(Scores(values={"insertion": {}, "insertion_zero": {}, "iou": {}}))
        ['zero']
    """
    return list(dict.fromkeys(filter(None, map(baseline_of, scores.values))))


def faithfulness(scores: Scores) -> str:
    """Metric that compares baseline images: ``srg`` where it was measured, else ``insertion``."""
    return "srg" if "srg" in scores.values else "insertion"


def metrics_over(scores: Scores, baseline: str) -> list[str]:
    """Insertion, deletion and SRG over a baseline image; the empty name is the first one."""
    names = (over(kind, baseline) for kind in ("insertion", "deletion", "srg"))
    return [name for name in names if name in scores.values]


def baseline_name(scores: Scores, baseline: str) -> str:
    """Display name of a baseline image; the empty name is the first one."""
    return baseline_title(baseline or scores.baseline) or "the first baseline image"


def seen_note(scores: Scores, baseline: str) -> str:
    """Say after a comma whether training used a baseline image; empty if that is not known.

    Example:
        >>> scores = Scores(baseline="blur", seen=frozenset({"blur"}))
        >>> seen_note(scores, ""), seen_note(scores, "road"), seen_note(Scores(), "road")
        (', seen in training', ', unseen in training', '')
    """
    name = baseline or scores.baseline
    if not scores.seen or not name:
        return ""
    return f", {'seen' if name in scores.seen else 'unseen'} in training"
