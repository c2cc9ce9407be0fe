"""Published uncertainties of explanations, which that of an explainer is compared with."""

from saliency_vae.baselines import Method
from saliency_vae.evaluation.uncertainty.member_disagreement import MemberDisagreement, has_members
from saliency_vae.evaluation.uncertainty.relax import Relax
from saliency_vae.evaluation.uncertainty.repeat import Repeat
from saliency_vae.models import Explainer

REPEAT = "REPEAT"
RELAX = "RELAX"
ENSEMBLE = "deep ensemble"
CONFORMAL = "conformal regions"
VARGRAD = "VarGrad"
_MASKS, _REPEATS = 500, 10  # as many masks for RELAX as for all repeats of it together


def rival_uncertainties(explainer: Explainer, vargrad: Method | None) -> dict[str, Method]:
    """Methods whose maps are uncertainties, by name.

    Args:
        explainer: Explainer to evaluate, whose networks are a deep ensemble if there are several.
        vargrad: VarGrad, where it is among the methods that are compared.
    """
    rivals: dict[str, Method] = {
        REPEAT: Repeat(lambda seed: Relax(_MASKS // _REPEATS, seed).importance, _REPEATS),
        RELAX: Relax(_MASKS),
    }
    if has_members(explainer):
        rivals[ENSEMBLE] = MemberDisagreement(explainer)
    return rivals if vargrad is None else {**rivals, VARGRAD: vargrad}
