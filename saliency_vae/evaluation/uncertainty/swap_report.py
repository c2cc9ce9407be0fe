"""Report on the swap test: uncertainties beside controls."""

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.kept_fraction import FRACTIONS
from saliency_vae.evaluation.uncertainty.pixels import FAINT, ROLES
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.uncertainty.swaps import Swaps, matched_spearman
from saliency_vae.evaluation.verdicts import LEAST_IMAGES, Verdict, judge_uncertainty, too_few
from saliency_vae.evaluation.wording import removal_title
from saliency_vae.metrics import difference_interval, mean_interval, spearman


def assess_swaps(swaps: Swaps | None, baseline: str, *, seed: int) -> UncertaintyReport:
    """Report how well uncertainties say where the classifier does not mind.

    Args:
        swaps: What :func:`swap_patches` found; None if there was nothing to swap.
        baseline: Name of the baseline image.
        seed: Seed of the bootstrap.
    """
    what = f"Swap test over {removal_title(baseline)}"
    if swaps is None:
        how = f"the kept views keep fewer than half of the decisions up to {FRACTIONS[-1]:.0%}."
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
            name: mean_interval(values, seed=seed) for name, values in by_name.items()
        }
        for order, by_name in (("all", plain), ("matched", matched))
    }
    verdicts: list[Verdict] = []
    side, images = swaps["side"], len(calm)
    if images < LEAST_IMAGES:
        verdicts = [too_few(what, images)]
        return UncertaintyReport(tuple(verdicts), intervals, roles=roles)
    controls = [name for name, role in roles.items() if role is Role.CONTROL]
    for name in (name for name, role in roles.items() if role is Role.EXPLAINER):
        for order, found in (
            ("", plain),
            (" which of two patches of neighbouring saliency minds less, and", matched),
        ):
            best = max(controls, key=lambda control: float(found[control].mean()))
            verdicts.append(
                judge_uncertainty(
                    f"{what}, {side}x{side} pixels, {swaps['fraction']:.0%} kept: this explainer's "
                    f"{name} {{}} the best control, {best}, at predicting{order} how little a swap "
                    f"changes: Spearman {found[name].mean():.3f} against {found[best].mean():.3f}",
                    difference_interval(found[name], found[best], seed=seed),
                    above_chance=bool(mean_interval(found[name], seed=seed).low > 0),
                )
            )
    return UncertaintyReport(tuple(verdicts), intervals, roles=roles)
