"""Corrupted images: does the confidence fall as much as the explanations get worse?

Images that the explainer declares out of its depth are not counted: it claims nothing about them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.resampling import LEAST_IMAGES, Resampling
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.uncertainty.images import entropy
from saliency_vae.evaluation.uncertainty.report import UncertaintyReport
from saliency_vae.evaluation.verdicts import Judgement, Verdict, too_few
from saliency_vae.metrics import spearman
from saliency_vae.models import Explainer, kept_view
from saliency_vae.perturbations import Blur

LEVELS = 6  # of each corruption, from none to the strongest
CONFIDENCE = "confidence"
AGREEMENT = "agreement at 5 % kept"
OUT_OF_DEPTH = "declared out of depth"
_ENOUGH = 0.9  # Spearman correlation over the levels that counts as following the agreement
_CLOSE = 0.1  # largest difference of confidence and agreement that counts as close


def noise(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise, of standard deviation up to 0.4, to images (B, 3, H, W) in [0, 1]."""
    drawn = torch.randn(images.shape, generator=generator).to(images.device)
    return (images + 0.4 * strength * drawn).clamp(0, 1)


def blur(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Blur images (B, 3, H, W), with a standard deviation up to a twelfth of the shorter side."""
    if strength == 0:
        return images
    softened: Tensor = Blur(strength * min(images.shape[-2:]) / 12)(images)
    return softened


def clutter(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Paste up to 24 squares of the previous image into each, their side 1/8 of the shorter one."""
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


@torch.no_grad()
def assess_corruption(
    images: Images,
    explainer: Explainer,
    classifier: FrozenClassifier,
    *,
    resampling: Resampling,
) -> UncertaintyReport:
    """Report mean confidence and agreement at 5 % kept, level by level, for each corruption.

    The decision to keep is that for the corrupted image.

    Args:
        images: A few images, corrupted in one batch.
        explainer: Explainer to evaluate, with a confidence network.
        classifier: Classifier to explain.
        resampling: Seed of the corruptions, and groups of the images.
    """
    levels = [level / (LEVELS - 1) for level in range(LEVELS)]
    clean = images.as_batch()["image"]
    report = UncertaintyReport()
    with tqdm(total=len(CORRUPTIONS) * LEVELS, desc="Corrupted images", unit="level") as bar:
        for name, corrupt in CORRUPTIONS.items():
            generator, scores = torch.Generator().manual_seed(resampling.seed), []
            for level in levels:
                parts = torch.split(corrupt(clean, level, generator), images.batch_size)
                found = [_scores(part, explainer, classifier) for part in parts]
                scores.append(torch.cat(found, dim=-1))
                bar.update()
            report += _assess_levels(name, levels, torch.stack(scores), resampling)
    return report


def _scores(images: Tensor, explainer: Explainer, classifier: FrozenClassifier) -> Tensor:
    """Confidence, agreement at 5 % kept, entropy of the prediction, and depth, (4, B).

    The last is 1 if the image is declared out of depth, else 0; NaN if depth is not measured.
    """
    posterior = explainer(images)
    logits = classifier(images)
    agreed = classifier.agreement(logits, classifier(kept_view(images, posterior)))
    independent = classifier.output == "sigmoid"
    unsure = entropy(classifier.probabilities(logits), independent=independent)
    unlike = torch.full_like(unsure, torch.nan)
    if explainer.confidence is not None and explainer.confidence.depth.is_known:
        unlike = posterior.out_of_depth.float()
    return torch.stack([posterior.confidence, agreed.float(), unsure, unlike]).cpu()


def _assess_levels(
    name: str, levels: list[float], scores: Tensor, resampling: Resampling
) -> UncertaintyReport:
    """Report one corruption, from the scores (levels, 4, N) of all images."""
    sure, right, _, unlike = scores.mean(-1).unbind(1)
    curve = {"level": levels, CONFIDENCE: sure.tolist(), AGREEMENT: right.tolist()}
    if not unlike.isnan().any():
        curve[OUT_OF_DEPTH] = unlike.tolist()
    images = resampling.independent(scores.shape[-1])
    verdict = (
        too_few(f"Confidence under {name}", images)
        if images < LEAST_IMAGES
        else judge_levels(name, scores)
    )
    return UncertaintyReport(
        (verdict,), curves={f"corruption_{name}": curve}, roles={CONFIDENCE: Role.EXPLAINER}
    )


def judge_levels(name: str, scores: Tensor) -> Verdict:
    """Judge the confidence by the share of the explanations that keep the decision.

    Args:
        name: Name of the corruption.
        scores: For each level and image: confidence, whether the decision stays, entropy of the
            prediction as a control, and whether the image is declared out of depth (NaN if depth is
            not measured), (levels, 4, N).
    """
    sure, right, unsure, unlike = scores.mean(-1).unbind(1)
    mine, control = (float(spearman(by[None], right[None])) for by in (sure, -unsure))
    gap = _overconfidence(scores)
    over, apart = float(gap[-1]), float(gap.abs().max())
    judgement: Judgement = "note"
    how = f"up to {apart:.3f} apart"
    if over > _CLOSE:
        judgement, how = "worse", f"overconfident by {over:.3f} at the strongest level"
    elif apart <= _CLOSE:
        judgement = "better" if mine >= _ENOUGH else "note"
        how = f"at most {apart:.3f} apart"
    if not unlike.isnan().any():
        how += (
            f" on images that are not declared out of depth, as {unlike[0]:.3f} are without it and "
            f"{unlike[-1]:.3f} at the strongest level"
        )
    return Verdict(
        judgement,
        f"Under {name}, the mean confidence goes from {sure[0]:.3f} to {sure[-1]:.3f} and the "
        f"share that keeps the decision at 5 % of the pixels from {right[0]:.3f} to "
        f"{right[-1]:.3f}: {how}. Over {LEVELS} levels, the Spearman correlation with that share "
        f"is {mine:+.2f} for the confidence and {control:+.2f} for the control, the entropy of the "
        "prediction.",
    )


def _overconfidence(scores: Tensor) -> Tensor:
    """Mean confidence minus agreement, over images not declared out of depth, (levels,).

    It is 0 where fewer than 10 images are left.
    """
    sure, right, _, unlike = scores.unbind(1)
    counted = unlike.nan_to_num() == 0
    number = counted.sum(-1)
    gap = ((sure - right) * counted).sum(-1) / number.clamp_min(1)
    return torch.where(number < LEAST_IMAGES, 0.0, gap)
