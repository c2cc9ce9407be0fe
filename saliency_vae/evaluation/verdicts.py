"""Verdicts: sentences, with intervals, on how the explainer compares with its rivals."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from saliency_vae.evaluation.main_metrics import fitting_agreement
from saliency_vae.evaluation.measured_baselines import (
    faithfulness,
    further_baselines,
    metrics_over,
    seen_note,
)
from saliency_vae.evaluation.metric_info import baseline_of, metric_info
from saliency_vae.evaluation.resampling import LEAST_IMAGES
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import three_digits, title
from saliency_vae.metrics import Interval

_HEADLINES = ("pointing_game", "iou", "two_objects_share", "grid_share", "eval_x")

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
        verdicts: One verdict for each main metric, for each cost, and for each sanity check.
        left_out: What was not compared and why, one sentence each.
    """

    verdicts: tuple[Verdict, ...] = ()
    left_out: tuple[str, ...] = ()


def compare_with_rivals(scores: Scores) -> list[Verdict]:
    """Compare the explainer with the best of its rivals, metric by metric, and in cost.

    Level means that the interval of the paired difference contains 0, or that the difference rounds
    to 0.000. The best rival scored on fewer images is compared separately, on those images. The
    list is empty if there is no explainer or no rival.
    """
    if EXPLAINER not in scores.methods or not scores.rivals:
        return []
    number = scores.resampling().independent(scores.images)
    if number < LEAST_IMAGES:
        return [too_few("Methods", number), *_compare_costs(scores)]
    verdicts = [
        _compare_metric(scores, metric, _best(scores, metric, rivals))
        for metric in _headlines(scores)
        if (rivals := [m for m in _rivals(scores, metric) if scores.is_complete(metric, m)])
    ]
    return [*verdicts, *_compare_slow(scores), *_compare_costs(scores)]


def too_few(what: str, images: int) -> Verdict:
    """Note that something is not compared, because too few images are independent."""
    text = f"not compared, because fewer than {LEAST_IMAGES} independent images ({images})"
    return Verdict("note", f"{what}: {text} are too few.")


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
    """Judge an uncertainty against a control; it is never better if it does not beat chance.

    Args:
        text: Sentence without its full stop, with ``{}`` in place of the verb.
        difference: Value of the explainer's uncertainty minus the control's.
        above_chance: Whether the explainer's uncertainty is better than chance.
    """
    judgement = judge(difference)
    chance = "" if above_chance else " It is no better than chance."
    return Verdict(
        "level" if judgement == "better" and not above_chance else judgement,
        f"{text.format(_VERBS[judgement])} (difference {difference_in_words(difference)}).{chance}",
    )


def difference_in_words(difference: Interval) -> str:
    """Write a difference and its interval, with signs."""
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _headlines(scores: Scores) -> list[str]:
    """Main metrics; over further baseline images only SRG, if it was measured."""
    further = [
        metric
        for baseline in further_baselines(scores)
        for metric in metrics_over(scores, baseline)
        if faithfulness(scores) == "insertion" or metric.startswith("srg")
    ]
    agreement = fitting_agreement(scores)
    return [
        *(metric for metric in _HEADLINES if metric in scores.values),
        *metrics_over(scores, ""),
        *further,
        *([agreement] if agreement else []),
    ]


def _rivals(scores: Scores, metric: str) -> list[str]:
    """Rivals with values of a metric; none if the explainer has none."""
    by_method = scores.values[metric]
    return [m for m in scores.rivals if m in by_method] if EXPLAINER in by_method else []


def _best(scores: Scores, metric: str, rivals: Iterable[str]) -> str:
    """Rival with the largest lead over the explainer, on the images that both are scored on."""
    sign = -1 if metric_info(metric).higher_is_better is False else 1

    def lead(rival: str) -> float:
        theirs, mine = scores.paired(metric, rival, EXPLAINER)
        return sign * float(theirs.double().mean() - mine.double().mean())

    return max(rivals, key=lead)


def _compare_metric(scores: Scores, metric: str, rival: str, what: str = "") -> Verdict:
    info = metric_info(metric)
    baseline = baseline_of(metric)
    name = f"{info.title}{seen_note(scores, baseline) if baseline else ''}"
    mine, theirs = scores.paired(metric, EXPLAINER, rival)
    resampling = scores.resampling(metric)
    number = resampling.independent(len(mine))
    if number < LEAST_IMAGES:
        return too_few(name, number)
    difference = resampling.difference(mine, theirs)
    judgement = judge(difference, higher_is_better=info.higher_is_better is not False)
    return Verdict(
        judgement,
        f"{name}: this explainer {mine.double().mean():.3f}, {_WORDS[judgement]} "
        f"the best {what or 'other method'}, {title(rival)}, {theirs.double().mean():.3f} "
        f"(difference {difference_in_words(difference)}).",
    )


def _compare_slow(scores: Scores) -> list[Verdict]:
    """Compare with the best of the rivals that were scored on fewer images than others."""
    metric = faithfulness(scores)
    slow = [
        method
        for method in _rivals(scores, metric)
        if scores.resampling(metric).independent(scores.number(metric, method)) >= LEAST_IMAGES
        and not scores.is_complete(metric, method)
    ]
    if not slow:
        return []
    rival = _best(scores, metric, slow)
    what = f"method among those scored on the first {scores.counted(metric, rival)} alone"
    return [_compare_metric(scores, metric, rival, what)]


def _compare_costs(scores: Scores) -> list[Verdict]:
    """Compare passes, if counted, and time with those of the best rival by insertion AUC."""
    rivals = [m for m in _rivals(scores, "insertion") if scores.is_complete("insertion", m)]
    if not rivals:
        return []
    rival = _best(scores, "insertion", rivals)
    who = f"the best other method by insertion AUC, {title(rival)},"
    verdicts = []
    if {EXPLAINER, rival} <= scores.passes.keys():
        mine, theirs = scores.passes[EXPLAINER], scores.passes[rival]
        text = (
            f"Passes of the classifier an image: this explainer {three_digits(mine)}; {who} "
            f"{three_digits(theirs)}."
        )
        verdicts.append(Verdict(_cheaper(mine, theirs), text))
    mine, theirs = scores.seconds[EXPLAINER], scores.seconds[rival]
    ratio = theirs / mine
    text = (
        f"Time of an explanation: this explainer {three_digits(1000 * mine)} ms; {who} "
        f"{three_digits(1000 * theirs)} ms, {three_digits(max(ratio, 1 / ratio))} times as "
        f"{'long' if ratio > 1 else 'fast'}."
    )
    return [*verdicts, Verdict(_cheaper(mine, theirs), text)]


def _cheaper(mine: float, theirs: float) -> Judgement:
    if mine == theirs:
        return "level"
    return "better" if mine < theirs else "worse"
