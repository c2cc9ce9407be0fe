"""Verdicts on whether maps depend on the classifier: the explainer against signal controls."""

from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.resampling import LEAST_IMAGES
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.signal_controls import CONTROLS
from saliency_vae.evaluation.verdicts import (
    Judgement,
    Verdict,
    difference_in_words,
    judge,
    too_few,
)
from saliency_vae.evaluation.wording import title

_METRICS = ("insertion", "pointing_game", "iou")


def compare_with_signal_controls(scores: Scores) -> list[Verdict]:
    """Compare the explainer with each control in the scores, one verdict each.

    An explainer that finds objects without the classifier would be level with them. The verdict is
    better if the explainer is better in each measured one of insertion, pointing game and IoU. It
    is worse if the explainer is worse in any and better in none.

    Args:
        scores: Scores of the explainer and of methods named as in :data:`CONTROLS`.
    """
    if EXPLAINER not in scores.methods:
        return []
    return [_compare(scores, control) for control in CONTROLS if control in scores.methods]


def _compare(scores: Scores, control: str) -> Verdict:
    shared = [
        metric
        for metric in _METRICS
        if {EXPLAINER, control} <= scores.values.get(metric, {}).keys()
    ]
    pairs = {metric: scores.paired(metric, EXPLAINER, control) for metric in shared}
    numbers = [scores.resampling().independent(len(mine)) for mine, _ in pairs.values()]
    fewest = min(numbers, default=0)
    if fewest < LEAST_IMAGES:
        return too_few(f"This explainer and the control ({title(control)})", fewest)
    judgements: list[Judgement] = []
    parts = []
    for metric, (mine, theirs) in pairs.items():
        difference = scores.resampling().difference(mine, theirs)
        judgements.append(judge(difference))
        parts.append(
            f"{metric_info(metric).title} {mine.double().mean():.3f} against "
            f"{theirs.double().mean():.3f} (difference {difference_in_words(difference)})"
        )
    judgement = _overall(judgements)
    return Verdict(
        judgement,
        f"Is it the classifier that is explained? This explainer against a control "
        f"({title(control)}): {', '.join(parts)}; {_CONCLUSIONS[judgement]}.",
    )


_CONCLUSIONS = {
    "better": "it is better in each, so its maps depend on this classifier",
    "level": "it is not clearly better in each, so this remains open",
    "worse": "it is worse, so this does not show that its maps depend on this classifier",
}


def _overall(judgements: list[Judgement]) -> Judgement:
    if all(judgement == "better" for judgement in judgements):
        return "better"
    return "worse" if "worse" in judgements and "better" not in judgements else "level"
