"""Report on the swap test: uncertainties against controls."""

from collections.abc import Mapping

from torch import Tensor

from saliency_vae.evaluation.resampling import LEAST_IMAGES, Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.kept_fraction import TRIED_FRACTIONS
from saliency_vae.evaluation.uncertainty.pixels import FAINT, INCLUSION, ROLES, STDDEV
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.swaps import Swaps, matched_spearman
from saliency_vae.evaluation.verdicts import Verdict, judge_uncertainty, too_few
from saliency_vae.evaluation.wording import baseline_title
from saliency_vae.metrics import spearman

# Uncertainties that should be high where swaps hardly change the decision. The spread of the
# signals is not judged: it measures where the signals disagree.
JUDGED = (INCLUSION, STDDEV)


def assess_swaps(
    swaps: Swaps | None, baseline: str, *, resampling: Resampling
) -> UncertaintyReport:
    """Report how well uncertainties predict where swaps hardly change the decision.

    Args:
        swaps: Result of :func:`swap_patches`; None if there was nothing to swap.
        baseline: Name of the baseline image.
        resampling: How images are resampled for intervals.
    """
    what = f"Swap test over {baseline_title(baseline)}"
    if swaps is None:
        how = (
            f"the kept views keep fewer than half of the decisions up to {TRIED_FRACTIONS[-1]:.0%}."
        )
        return UncertaintyReport(left_out=(f"{what}: {how}",))
    calm, saliency = -swaps["effect"], -swaps["uncertainties"][FAINT]
    roles = {name: ROLES.get(name, Role.CONTROL) for name in swaps["uncertainties"]}
    plain = {name: spearman(values, calm) for name, values in swaps["uncertainties"].items()}
    matched = {
        name: matched_spearman(values, calm, saliency)
        for name, values in swaps["uncertainties"].items()
    }
    intervals = {
        f"swap_{order}_{baseline}": {
            name: resampling.mean(values) for name, values in by_name.items()
        }
        for order, by_name in (("all", plain), ("matched", matched))
    }
    images = resampling.independent(len(calm))
    if images < LEAST_IMAGES:
        return UncertaintyReport((too_few(what, images),), intervals, roles=roles)
    side, fraction = swaps["side"], swaps["fraction"]
    kept = f"{what}, patches of {side}x{side} pixels, {fraction:.0%} kept"
    verdicts = [
        _judge(f"{kept}{order}", name, by_name, resampling)
        for name in JUDGED
        for order, by_name in (("", plain), (", at equal saliency", matched))
    ]
    return UncertaintyReport(tuple(verdicts), intervals, roles=roles)


def _judge(what: str, name: str, found: Mapping[str, Tensor], resampling: Resampling) -> Verdict:
    """Judge an uncertainty of the explainer by its correlations, (N,), and those of controls."""
    controls = [control for control in found if ROLES.get(control, Role.CONTROL) is Role.CONTROL]
    best = max(controls, key=lambda control: float(found[control].mean()))
    return judge_uncertainty(
        f"{what}: this explainer's {name} {{}} the best control, {best}, at predicting how little "
        f"the decision changes: Spearman {found[name].mean():.3f} against {found[best].mean():.3f}",
        resampling.difference(found[name], found[best]),
        above_chance=bool(resampling.mean(found[name]).low > 0),
    )
