"""Study of refining the universal explainer's maps image by image, on validation images.

python research/refinement.py tv_blur_30_0.005 kl_mixture_30_0.01 --photographs DIR

Each variant is a distance of two predictions (total variation or KL divergence), a baseline image,
a number of steps and a learning rate. No test portion is seen.
The table of all that was tried is in docs/experiments.md.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.metrics import InPainting, insertion_deletion, mask_iou, pointing_game
from saliency_vae.perturbations import Blur, blurred

BASELINES: dict[str, nn.Module | None] = {"mixture": None, "blur": Blur()}  # None: the training's
VARIANTS = {
    f"{distance}_{baseline}_{steps}_{lr}": (distance, baseline, steps, float(lr))
    for distance in ("tv", "kl")
    for baseline in BASELINES
    for steps in (10, 20, 30, 40)
    for lr in ("0.003", "0.005", "0.01", "0.02")
}


def scenes(
    photographs: Path, classifier: FrozenClassifier, size: int, number: int
) -> tuple[Tensor, Tensor]:
    """Validation images (B, 3, H, W) in [0, 1] whose decision rests on their object, and masks."""
    data = CutoutsData(
        str(photographs / "cutouts"), str(photographs / "backgrounds"), size, num_workers=0
    )
    data.setup("validate")
    data.choose_images(lambda images: classifier.probabilities(classifier(images)), number)
    items = [data.val_set[index] for index in range(number)]
    images, masks = (torch.stack([item[key] for item in items]) for key in ("image", "mask"))
    return images.float() / 255, masks


def scored(classifier: FrozenClassifier, images: Tensor, masks: Tensor, maps: Tensor) -> str:
    """Insertion and deletion over a seen and an unseen baseline, pointing game and IoU."""
    parts = []
    for name, baseline in (("blur", blurred(images)), ("in-painting", InPainting())):
        curves = insertion_deletion(
            classifier, images, maps, baseline, step=-(-maps[0].numel() // 16), batch_size=48
        )
        areas = curves.insertion_auc.mean(), curves.deletion_auc.mean()
        parts.append("{} {:.3f} / {:.3f}".format(name, *areas))
    hits, overlap = pointing_game(maps, masks).float().mean(), mask_iou(maps, masks).mean()
    return ", ".join([*parts, f"pointing {hits:.2f}, IoU {overlap:.3f}"])


def main() -> None:
    """Print one line for the maps as they are, and one for each variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the kept fractions")
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=args.size)
    with torch.no_grad():
        images, masks = scenes(args.photographs, classifier, args.size, args.images)
    explainer = load_explainer("universal", classifier)
    start = explainer(images).mean.detach()
    print("as it is:", scored(classifier, images, masks, start), flush=True)
    for name in args.variants:
        distance, baseline, steps, lr = VARIANTS[name]
        objective = explainer.objective(BASELINES[baseline])
        if distance == "tv":
            objective = objective.bounded()
        refined = explainer.refine(
            images,
            classifier,
            objective=objective,
            steps=steps,
            lr=lr,
            seed=args.seed,
            evaluations=1,
        )
        before, after = refined.before.mean(), refined.after.mean()
        line = scored(classifier, images, masks, refined.posterior.mean)
        print(f"{name}: {line}, objective {before:.3f} -> {after:.3f}", flush=True)


if __name__ == "__main__":
    main()
