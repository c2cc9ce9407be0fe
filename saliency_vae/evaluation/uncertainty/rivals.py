"""Published uncertainties of explanations, to compare an explainer's with."""

from collections.abc import Callable
from functools import partial, reduce

import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.uncertainty.member_disagreement import MemberDisagreement, has_members
from saliency_vae.evaluation.uncertainty.relax import MaskSums, mask_sums
from saliency_vae.evaluation.uncertainty.repeat import repeat_uncertainty
from saliency_vae.models import Explainer

REPEAT = "REPEAT"
RELAX = "RELAX"
ENSEMBLE = "deep ensemble"
CONFORMAL = "conformal regions"
VARGRAD = "VarGrad"
_MASKS, _REPEATS = 500, 10  # masks over all repeats, and repeats

# Function of a batch that returns per-pixel uncertainties by name, (B, H, W) each, from the same
# passes.
Rival = Callable[[Batch, FrozenClassifier], dict[str, Tensor]]


def rival_uncertainties(explainer: Explainer, vargrad: Method | None) -> list[Rival]:
    """Make the rivals of an explainer's uncertainty.

    Args:
        explainer: Explainer to evaluate; if it has several networks, they are a deep ensemble.
        vargrad: VarGrad, if it is among the methods to compare.
    """
    rivals: list[Rival] = [relax_and_repeat]
    if has_members(explainer):
        rivals.append(named(ENSEMBLE, MemberDisagreement(explainer)))
    return rivals if vargrad is None else [*rivals, named(VARGRAD, vargrad)]


def relax_and_repeat(
    batch: Batch, classifier: FrozenClassifier, *, masks: int = _MASKS, repeats: int = _REPEATS
) -> dict[str, Tensor]:
    """RELAX over all masks, and REPEAT over RELAX maps from equal parts of the masks.

    Args:
        batch: Images as float in [0, 1], (B, 3, H, W), and optionally their target.
        classifier: Classifier to explain, one pass for each mask.
        masks: Number of masks; a multiple of the repeats.
        repeats: Number of repeats.
    """
    parts = [
        mask_sums(batch, classifier, masks=masks // repeats, seed=seed) for seed in range(repeats)
    ]
    return {
        REPEAT: repeat_uncertainty(torch.stack([part.importance for part in parts])),
        RELAX: reduce(MaskSums.merged, parts).variance,
    }


def named(name: str, method: Method) -> Rival:
    """Use the maps of a method as an uncertainty of this name."""
    return partial(_named, name, method)


def _named(
    name: str, method: Method, batch: Batch, classifier: FrozenClassifier
) -> dict[str, Tensor]:
    return {name: method(batch, classifier)}
