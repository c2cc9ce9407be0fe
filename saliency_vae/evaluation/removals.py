"""The removals of an evaluation: baseline images and imputations, seen or unseen in training."""

from saliency_vae.evaluation.metric_info import over, removal_of
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import removal_title


def further_removals(scores: Scores) -> list[str]:
    """Names of the removals after the first one, whose metrics name them.

    Example:
        >>> further_removals(Scores(values={"insertion": {}, "insertion_zero": {}, "iou": {}}))
        ['zero']
    """
    return list(dict.fromkeys(filter(None, map(removal_of, scores.values))))


def faithfulness(scores: Scores) -> str:
    """Metric by which removals are compared: ``srg`` where it was measured, else ``insertion``."""
    return "srg" if "srg" in scores.values else "insertion"


def metrics_over(scores: Scores, removal: str) -> list[str]:
    """Metrics measured over a removal, empty for the first: insertion, deletion and SRG."""
    names = (over(kind, removal) for kind in ("insertion", "deletion", "srg"))
    return [name for name in names if name in scores.values]


def removal_name(scores: Scores, removal: str) -> str:
    """Write the name of a removal, empty for the first one, for people."""
    return removal_title(removal or scores.removal) or "the first baseline image"


def seen_note(scores: Scores, removal: str) -> str:
    """Say after a comma whether training used a removal; empty if that is not known.

    Example:
        >>> scores = Scores(removal="blur", seen=frozenset({"blur"}))
        >>> seen_note(scores, ""), seen_note(scores, "road"), seen_note(Scores(), "road")
        (', seen in training', ', unseen in training', '')
    """
    name = removal or scores.removal
    if not scores.seen or not name:
        return ""
    return f", {'seen' if name in scores.seen else 'unseen'} in training"
