"""Does the confidence fall when images are corrupted, as the explanations get worse?"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.confidence import CONFIDENCE_FRACTION
from saliency_vae.data.datamodule import Batch
from saliency_vae.explainer import Explainer
from saliency_vae.metrics.ranking import spearman
from saliency_vae.perturbations import Blur, blurred, perturb
from saliency_vae.results import Finding, Results

LEVELS = 6  # of each corruption, from none to the strongest
_ENOUGH = 0.9  # Spearman's correlation over the levels


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
        sure, right = torch.cat(of_batches, dim=-1).mean(-1).unbind(1)
        results.uncertainty_curves[f"corruption_{name}"] = {
            "level": levels,
            "ours, confidence": sure.tolist(),
            "agreement at 5 % kept": right.tolist(),
        }
        results.uncertainty_findings.append(_finding(name, sure, right))


def _scores(images: Tensor, explainer: Explainer, classifier: FrozenClassifier) -> Tensor:
    """Confidence in the explanations of images, and whether 5 % keep the decision: (2, B)."""
    posterior = explainer(images)
    view = perturb(images, posterior.topk_mask(CONFIDENCE_FRACTION), blurred(images))
    agreed = classifier.agreement(classifier(images), classifier(view))
    return torch.stack([posterior.confidence, agreed.float()]).cpu()


def _finding(name: str, sure: Tensor, right: Tensor) -> Finding:
    together = float(spearman(sure[None], right[None]))
    return Finding(
        "better" if together >= _ENOUGH else "worse",
        f"Under {name}, confidence goes from {sure[0]:.3f} to {sure[-1]:.3f} and agreement at 5 % "
        f"kept from {right[0]:.3f} to {right[-1]:.3f}: Spearman over {LEVELS} levels "
        f"{together:+.2f}.",
    )
