"""Where ours stands, in plain words, each comparison with its interval."""

from saliency_vae.evaluation.metric_info import (
    metric_info,
    over_another_removal,
    three_digits,
    title,
)
from saliency_vae.evaluation.results import Finding, Results, Verdict
from saliency_vae.metrics import Interval, difference_interval

OURS = "ours"
LEAST_IMAGES = 10  # of fewer, resampling makes intervals far too narrow to judge by
_HEADLINES = ("pointing_game", "iou", "insertion", "deletion", "agreement_5")
_VERBS: dict[Verdict, str] = {
    "better": "beats",
    "level": "cannot be told from",
    "worse": "is beaten by",
}
_WORDS = {"better": "better than", "level": "level with", "worse": "worse than"}


def findings(results: Results) -> list[Finding]:
    """Compare ours with the best of all others, metric by metric, and say what it costs.

    The others are all methods but further explainers of ours (``ours_...``) and oracles. Level is
    what cannot be told apart: the interval of the paired difference holds 0, or the difference is
    0.000 as written.
    """
    rivals = [m for m in results.methods if not m.startswith(OURS) and m not in results.oracles]
    if OURS not in results.methods or not rivals:
        return []
    cost = _cost(results, rivals)
    if results.images < LEAST_IMAGES:
        return [too_few("Methods", results.images), cost]
    return [*(_compared(results, metric, rivals) for metric in _headlines(results)), cost]


def _headlines(results: Results) -> list[str]:
    return [
        *(metric for metric in _HEADLINES if metric in results.values),
        *filter(over_another_removal, results.values),
    ]


def too_few(what: str, images: int) -> Finding:
    """Say why something is not compared."""
    return Finding(
        "note", f"{what}: not compared; fewer than {LEAST_IMAGES} images ({images}) tell nothing."
    )


def verdict(difference: Interval, *, higher_is_better: bool = True) -> Verdict:
    """Judge a difference, ours minus another's; what is 0 to three decimals is level."""
    if difference.low <= 0 <= difference.high or f"{abs(difference.mean):.3f}" == "0.000":
        return "level"
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def in_words(difference: Interval) -> str:
    """Write a difference with its interval."""
    return f"difference {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def against_control(text: str, difference: Interval, *, above_chance: bool) -> Finding:
    """Judge an uncertainty; what does not beat chance is not better, whatever its control does.

    Args:
        text: With ``{}`` where the verb belongs.
        difference: Ours minus the control.
        above_chance: Whether ours tells anything at all.
    """
    judged = verdict(difference)
    chance = "" if above_chance else " It is no better than chance."
    return Finding(
        "level" if judged == "better" and not above_chance else judged,
        f"{text.format(_VERBS[judged])} ({in_words(difference)}).{chance}",
    )


def _compared(results: Results, metric: str, rivals: list[str]) -> Finding:
    rival, of = _best(results, metric, rivals), metric_info(metric)
    values = results.values[metric]
    difference = difference_interval(values[OURS], values[rival], seed=results.seed)
    judged = verdict(difference, higher_is_better=of.higher_is_better is not False)
    return Finding(
        judged,
        f"{of.title}: ours {results.mean(metric, OURS):.3f}, {_WORDS[judged]} the best other, "
        f"{title(rival)}, {results.mean(metric, rival):.3f} ({in_words(difference)}).",
    )


def _cost(results: Results, rivals: list[str]) -> Finding:
    rival = _best(results, "insertion", rivals)
    ours, theirs = results.seconds[OURS], results.seconds[rival]
    ratio = theirs / ours
    apart = f"{three_digits(max(ratio, 1 / ratio))} times as {'long' if ratio > 1 else 'fast'}"
    return Finding(
        "better" if ratio > 1 else "worse",
        f"Time: ours {three_digits(1000 * ours)} ms an explanation; the best other by insertion, "
        f"{title(rival)}, {three_digits(1000 * theirs)} ms, {apart}.",
    )


def _best(results: Results, metric: str, rivals: list[str]) -> str:
    sign = -1 if metric_info(metric).higher_is_better is False else 1
    return max(rivals, key=lambda method: sign * results.mean(metric, method))
