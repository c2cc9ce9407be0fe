"""The metrics of a short table: one or two for each question a reader has."""

from saliency_vae.evaluation.metric_info import baseline_of, is_agreement
from saliency_vae.evaluation.scores import Scores

_BEFORE = ("insertion", "deletion", "srg")
_AFTER = ("pointing_game", "iou", "two_objects_share", "grid_share", "eval_x")


def fitting_agreement(scores: Scores) -> str | None:
    """Agreement at ``kept_percent``, which suits the classifier; None if none was measured."""
    known = any(map(is_agreement, scores.values))
    return f"agreement_{scores.kept_percent:g}" if known else None


def main_metrics(scores: Scores) -> list[str]:
    """Metrics of the ranking, over the first baseline image only, with one agreement."""
    chosen = (*_BEFORE, fitting_agreement(scores), *_AFTER)
    return [metric for metric in chosen if metric and metric in scores.values]


def agreements(scores: Scores) -> list[str]:
    """Agreements at all shares of the pixels that were measured."""
    return [metric for metric in scores.values if is_agreement(metric)]


def further_metrics(scores: Scores) -> list[str]:
    """All other metrics over the first baseline image: not in the ranking, and no agreements."""
    elsewhere = {*main_metrics(scores), *agreements(scores)}
    return [m for m in scores.values if m not in elsewhere and not baseline_of(m)]
