"""Verdicts: how the explainer compares with its rivals, in sentences with intervals."""

from dataclasses import dataclass
from typing import Literal

from saliency_vae.evaluation.metric_info import has_own_baseline_image, metric_info
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import three_digits, title
from saliency_vae.metrics import Interval, difference_interval

LEAST_IMAGES = 10  # with fewer images, resampling makes intervals far too narrow to judge by
_HEADLINES = ("pointing_game", "iou", "insertion", "deletion", "agreement_5")

Judgement = Literal["better", "level", "worse", "note"]
_VERBS: dict[Judgement, str] = {
    "better": "beats",
    "level": "is level with",
    "worse": "is beaten by",
}
_WORDS = {"better": "better than", "level": "level with", "worse": "worse than"}


@dataclass(frozen=True)
class Verdict:
    """A judgement of the explainer, and the sentence that gives its reasons.

    Attributes:
        judgement: Whether the explainer is ``better``, ``level`` or ``worse``; ``note`` if nothing
            is compared.
        text: The sentence, its numbers included.
    """

    judgement: Judgement
    text: str


@dataclass(frozen=True)
class Comparison:
    """How the explainer compares with its rivals.

    Attributes:
        verdicts: One verdict for each metric that matters most, for the time, and for each sanity
            check.
        left_out: What was not compared and why, one sentence each.
    """

    verdicts: tuple[Verdict, ...] = ()
    left_out: tuple[str, ...] = ()


def compare_with_rivals(scores: Scores) -> list[Verdict]:
    """Compare the explainer with the best of its rivals, metric by metric, and in time.

    Level is what cannot be told apart: the interval of the paired difference contains 0, or the
    difference is 0.000 as written. The list is empty if there is no explainer or no rival.
    """
    if EXPLAINER not in scores.methods or not scores.rivals:
        return []
    if scores.images < LEAST_IMAGES:
        return [too_few("Methods", scores.images), _compare_time(scores)]
    headlines = [
        *(metric for metric in _HEADLINES if metric in scores.values),
        *filter(has_own_baseline_image, scores.values),
    ]
    return [*(_compare_metric(scores, metric) for metric in headlines), _compare_time(scores)]


def too_few(what: str, images: int) -> Verdict:
    """Note that something is not compared, because there are too few images."""
    return Verdict(
        "note",
        f"{what}: not compared, because fewer than {LEAST_IMAGES} images ({images}) are too few.",
    )


def judge(difference: Interval, *, higher_is_better: bool = True) -> Judgement:
    """Judge a difference, the explainer's value minus the rival's.

    Example:
        >>> from torch import tensor
        >>> judge(Interval(mean=tensor(0.2), low=tensor(0.1), high=tensor(0.3)))
        'better'
        >>> judge(Interval(mean=tensor(0.2), low=tensor(-0.1), high=tensor(0.5)))
        'level'
    """
    if difference.low <= 0 <= difference.high or f"{abs(difference.mean):.3f}" == "0.000":
        return "level"
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def judge_uncertainty(text: str, difference: Interval, *, above_chance: bool) -> Verdict:
    """Judge an uncertainty against a control; what does not beat chance is never better.

    Args:
        text: Sentence without its full stop, ``{}`` standing where the verb belongs.
        difference: Value of the explainer's uncertainty minus the control's.
        above_chance: Whether the explainer's uncertainty is better than chance.
    """
    judgement = judge(difference)
    chance = "" if above_chance else " It is no better than chance."
    return Verdict(
        "level" if judgement == "better" and not above_chance else judgement,
        f"{text.format(_VERBS[judgement])} ({_in_words(difference)}).{chance}",
    )


def _in_words(difference: Interval) -> str:
    return f"difference {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _compare_metric(scores: Scores, metric: str) -> Verdict:
    rival, info = _best_rival(scores, metric), metric_info(metric)
    values = scores.values[metric]
    difference = difference_interval(values[EXPLAINER], values[rival], seed=scores.seed)
    judgement = judge(difference, higher_is_better=info.higher_is_better is not False)
    return Verdict(
        judgement,
        f"{info.title}: this explainer {scores.mean(metric, EXPLAINER):.3f}, {_WORDS[judgement]} "
        f"the best other method, {title(rival)}, {scores.mean(metric, rival):.3f} "
        f"({_in_words(difference)}).",
    )


def _compare_time(scores: Scores) -> Verdict:
    rival = _best_rival(scores, "insertion")
    mine, theirs = scores.seconds[EXPLAINER], scores.seconds[rival]
    ratio = theirs / mine
    apart = f"{three_digits(max(ratio, 1 / ratio))} times as {'long' if ratio > 1 else 'fast'}"
    return Verdict(
        "better" if ratio > 1 else "worse",
        f"Time of an explanation: this explainer {three_digits(1000 * mine)} ms; the best other "
        f"method by insertion AUC, {title(rival)}, {three_digits(1000 * theirs)} ms, {apart}.",
    )


def _best_rival(scores: Scores, metric: str) -> str:
    sign = -1 if metric_info(metric).higher_is_better is False else 1
    return max(scores.rivals, key=lambda method: sign * scores.mean(metric, method))
