"""Does the confidence fall when images are corrupted, as far as the explanations get worse?"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.results import Finding, Results, Verdict
from saliency_vae.evaluation.uncertainty.images import entropy
from saliency_vae.evaluation.verdicts import LEAST_IMAGES, too_few
from saliency_vae.metrics import spearman
from saliency_vae.models import CONFIDENCE_FRACTION, Explainer
from saliency_vae.perturbations import Blur, blurred, perturb

LEVELS = 6  # of each corruption, from none to the strongest
_ENOUGH = 0.9  # Spearman's correlation over the levels
_CLOSE = 0.1  # confidence to agreement


def noise(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of a stddev up to 0.4 to images (B, 3, H, W) in [0, 1]."""
    drawn = torch.randn(images.shape, generator=generator).to(images.device)
    return (images + 0.4 * strength * drawn).clamp(0, 1)


def blur(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Blur images (B, 3, H, W) with a stddev of up to a twelfth of their shorter side."""
    if strength == 0:
        return images
    softened: Tensor = Blur(strength * min(images.shape[-2:]) / 12)(images)
    return softened


def clutter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Paste up to 24 squares, an eighth of the shorter side wide, out of the other images."""
    side = max(1, min(images.shape[-2:]) // 8)
    height, width = images.shape[-2:]
    cluttered = images.clone()
    donors = images.roll(1, 0)
    for index in range(len(images)):
        for _ in range(round(24 * strength)):
            y, from_y = torch.randint(height - side + 1, (2,), generator=generator).tolist()
            x, from_x = torch.randint(width - side + 1, (2,), generator=generator).tolist()
            patch = donors[index, :, from_y : from_y + side, from_x : from_x + side]
            cluttered[index, :, y : y + side, x : x + side] = patch
    return cluttered


CORRUPTIONS: dict[str, Callable[[Tensor, float, torch.Generator], Tensor]] = {
    "noise": noise,
    "blur": blur,
    "clutter": clutter,
}


@torch.inference_mode()
def add_corruption(
    results: Results,
    batches: Iterable[Batch],
    explainer: Explainer,
    classifier: FrozenClassifier,
) -> None:
    """Add mean confidence and agreement at 5 % kept, level by level, for each corruption.

    The classifier's decision on the corrupted image is what the kept view must keep.

    Args:
        results: To add to.
        batches: Of images.
        explainer: Ours, with a confidence network.
        classifier: To explain.
    """
    levels = [level / (LEVELS - 1) for level in range(LEVELS)]
    seeded = {name: torch.Generator().manual_seed(results.seed) for name in CORRUPTIONS}
    found: dict[str, list[Tensor]] = {name: [] for name in CORRUPTIONS}
    for batch in batches:
        for name, corrupt in CORRUPTIONS.items():
            scores = [
                _scores(corrupt(batch["image"], level, seeded[name]), explainer, classifier)
                for level in levels
            ]
            found[name].append(torch.stack(scores))
    for name, of_batches in found.items():
        together = torch.cat(of_batches, dim=-1)
        sure, right, unsure = together.mean(-1).unbind(1)
        results.uncertainty_curves[f"corruption_{name}"] = {
            "level": levels,
            "ours, confidence": sure.tolist(),
            "agreement at 5 % kept": right.tolist(),
        }
        images = together.shape[-1]
        results.uncertainty_findings.append(
            too_few(f"Confidence under {name}", images)
            if images < LEAST_IMAGES
            else _finding(name, sure, right, unsure)
        )


def _scores(images: Tensor, explainer: Explainer, classifier: FrozenClassifier) -> Tensor:
    """Confidence in explanations, whether 5 % keep the decision, its entropy as control: (3, B)."""
    posterior = explainer(images)
    logits = classifier(images)
    view = perturb(images, posterior.topk_mask(CONFIDENCE_FRACTION), blurred(images))
    agreed = classifier.agreement(logits, classifier(view))
    independent = classifier.output == "sigmoid"
    unsure = entropy(classifier.probabilities(logits), independent=independent)
    return torch.stack([posterior.confidence, agreed.float(), unsure]).cpu()


def _finding(name: str, sure: Tensor, right: Tensor, unsure: Tensor) -> Finding:
    """Judge the mean confidence of each level by the share that keeps the decision."""
    ours, control = (float(spearman(by[None], right[None])) for by in (sure, -unsure))
    over, apart = float(sure[-1] - right[-1]), float((sure - right).abs().max())
    judged: Verdict = "note"
    how = f"up to {apart:.3f} apart"
    if over > _CLOSE:
        judged, how = "worse", f"overconfident by {over:.3f} at the strongest level"
    elif apart <= _CLOSE:
        judged, how = "better" if ours >= _ENOUGH else "note", f"at most {apart:.3f} apart"
    return Finding(
        judged,
        f"Under {name}, mean confidence goes from {sure[0]:.3f} to {sure[-1]:.3f} and the share "
        f"that keeps the decision at 5 % from {right[0]:.3f} to {right[-1]:.3f}: {how}. Spearman "
        f"over {LEVELS} levels {ours:+.2f}; of the control, entropy of the prediction, "
        f"{control:+.2f}.",
    )
