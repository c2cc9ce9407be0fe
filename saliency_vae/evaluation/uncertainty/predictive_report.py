"""Report on posterior predictive checks: sampled maps against every control."""

from dataclasses import replace

import torch
from torch import Tensor

from saliency_vae.evaluation.resampling import LEAST_IMAGES, Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.deviations import ROLES, SAMPLED
from saliency_vae.evaluation.uncertainty.kept_fraction import TRIED_FRACTIONS
from saliency_vae.evaluation.uncertainty.predictive import (
    CONDITIONS,
    SHARES,
    UNSCALED,
    PredictiveCheck,
    condition,
)
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.verdicts import Verdict, difference_in_words, judge, too_few
from saliency_vae.evaluation.wording import baseline_title
from saliency_vae.metrics import Interval

LEAST_CHANGED = 0.05  # share of the kept set; a posterior that changes less hardly varies


def assess_predictions(
    check: PredictiveCheck | None, baseline: str, *, resampling: Resampling
) -> UncertaintyReport:
    """Report how many decisions sampled maps and controls keep, and judge the sampled maps.

    Only images whose mean map keeps the decision are counted.

    Args:
        check: Result of :func:`check_predictions`; None if there was nothing to check.
        baseline: Name of the baseline image.
        resampling: How images are resampled for intervals.
    """
    what = f"Posterior predictive check over {baseline_title(baseline)}"
    if check is None:
        how = (
            f"the mean maps keep fewer than half of the decisions up to {TRIED_FRACTIONS[-1]:.0%}."
        )
        return UncertaintyReport(left_out=(f"{what}: {how}",))
    judged = check["mean"]["kept"][:, 0] == 1
    intervals = _intervals(check, baseline, judged, resampling)
    lines = {
        name: [_of_images(check, "kept", condition(share), name, judged) for share in SHARES]
        for name in ROLES
    }
    curve = {name: [float(point.mean()) for point in points] for name, points in lines.items()}
    curve = {"changed": [0.0, *SHARES]} | {name: [1.0, *points] for name, points in curve.items()}
    images = resampling.some(judged).independent(int(judged.sum()))
    verdicts = [too_few(what, images)]
    if images >= LEAST_IMAGES:
        verdicts = _judge(check, what, judged, resampling)
    return UncertaintyReport(
        tuple(verdicts), intervals, {f"predictive_{baseline}": curve}, dict(ROLES)
    )


def _of_images(
    check: PredictiveCheck, measured: str, scaling: str, name: str, judged: Tensor
) -> Tensor:
    """Mean over the maps of each judged image, (n,)."""
    values: Tensor = check["drawn"][scaling][name][measured]  # type: ignore[literal-required]
    return values[judged].double().mean(1)


def _intervals(
    check: PredictiveCheck, baseline: str, judged: Tensor, resampling: Resampling
) -> dict[str, dict[str, Interval]]:
    every = torch.ones_like(judged)
    asked = [(m, scaling, judged) for m in ("kept", "probability") for scaling in CONDITIONS]
    found = {
        f"samples_{measured}_{scaling}_{baseline}": {
            name: resampling.some(among).mean(
                _of_images(check, measured, scaling, name, among), shares=measured == "kept"
            )
            for name in ROLES
        }
        for measured, scaling, among in [*asked, ("changed", UNSCALED, every)]
    }
    necessity = resampling.some(judged).mean(check["necessity"][judged].double().mean(1))
    return found | {f"samples_necessity_{UNSCALED}_{baseline}": {SAMPLED: necessity}}


def _judge(
    check: PredictiveCheck, what: str, judged: Tensor, resampling: Resampling
) -> list[Verdict]:
    """Judge how much the sampled maps change, and how many decisions they lose at each scaling."""
    moved = resampling.mean(check["drawn"][UNSCALED][SAMPLED]["changed"].double().mean(1))
    enough = bool(moved.mean >= LEAST_CHANGED)
    kept, of = int(judged.sum()), len(judged)
    said = Verdict(
        "note" if enough else "worse",
        f"{what}, with {check['fraction']:.0%} of the pixels kept, where the mean map keeps "
        f"{kept} of {of} decisions: sampled maps as drawn change {moved.mean:.3f} "
        f"[{moved.low:.3f}, {moved.high:.3f}] of the kept set"
        + ("." if enough else f", less than {LEAST_CHANGED:.0%}: this posterior hardly varies."),
    )
    verdicts = [_judge_scaling(check, what, scaling, judged, resampling) for scaling in CONDITIONS]
    if not enough:  # a posterior that hardly varies cannot pass
        verdicts = [
            v if v.judgement != "better" else replace(v, judgement="level") for v in verdicts
        ]
    return [said, *verdicts]


def _judge_scaling(
    check: PredictiveCheck, what: str, scaling: str, judged: Tensor, resampling: Resampling
) -> Verdict:
    """Judge whether sampled maps lose at most half of the decisions that each control loses."""
    maps = (
        "maps as drawn"
        if scaling == UNSCALED
        else f"maps scaled to change {scaling} % of the kept set"
    )
    lost = {name: 1 - _of_images(check, "kept", scaling, name, judged) for name in ROLES}
    controls = [name for name, role in ROLES.items() if role is Role.CONTROL]
    best = min(controls, key=lambda name: float(lost[name].mean()))
    mine, theirs = float(lost[SAMPLED].mean()), float(lost[best].mean())
    numbers = (
        f"{what}, {maps}: sampled maps lose {mine:.3f} of the decisions, the best control, "
        f"{best}, {theirs:.3f}{_short_of(check, scaling)}"
    )
    if scaling == UNSCALED:  # where the controls change more or fewer pixels
        return Verdict("note", f"{numbers}, at equal variance.")
    if mine == theirs == 0:
        return Verdict("note", f"{numbers}: there is nothing to tell them apart by.")
    over = resampling.some(judged).difference(lost[SAMPLED], lost[best] / 2)
    judgement = judge(over, higher_is_better=False)
    is_half = "at most half" if mine <= theirs / 2 else "more than half"
    return Verdict(
        judgement,
        f"{numbers}: {is_half} (difference from half {difference_in_words(over)}).",
    )


def _short_of(check: PredictiveCheck, scaling: str) -> str:
    """Name the maps that change less of the kept set than they should."""
    if scaling == UNSCALED:
        return ""
    shares = {name: float(seen["changed"].mean()) for name, seen in check["drawn"][scaling].items()}
    short = [f"{n} {share:.0%}" for n, share in shares.items() if share < int(scaling) / 100 - 0.01]
    return f" (changed at most: {', '.join(short)})" if short else ""
