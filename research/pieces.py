"""Count the connected pieces that the top 10 % of a map falls into, on validation scenes.

python research/pieces.py universal DIR... --photographs DIR

EfficientNet-Lite0; pixels are connected if they share a side. No test portion is seen.
"""

import argparse
from pathlib import Path

import torch
from refinement import scenes
from scipy import ndimage
from torch import Tensor

from saliency_vae import load_explainer
from saliency_vae.baselines import GradCAM, SmoothGrad
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.data import Batch
from saliency_vae.topk import top_pixels

SIZE = 128


def pieces(maps: Tensor, fraction: float = 0.1) -> float:
    """Mean number of connected pieces of the most salient pixels of maps (B, H, W)."""
    kept = top_pixels(maps, fraction).cpu().numpy()
    return sum(ndimage.label(of_image)[1] for of_image in kept) / len(kept)


def main() -> None:
    """Print one line for each explainer, for its refined maps, SmoothGrad and Grad-CAM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainers", nargs="+", metavar="EXPLAINER")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--refine-steps", type=int, default=30, help="0: no refined maps")
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=SIZE)
    with torch.no_grad():
        images, _ = scenes(args.photographs, classifier, SIZE, args.images)
        target = classifier.decide(classifier(images))
    batch: Batch = {"image": images, "target": target}
    print(f"SmoothGrad: {pieces(SmoothGrad()(batch, classifier)):.1f}", flush=True)
    print(f"Grad-CAM: {pieces(GradCAM()(batch, classifier)):.1f}", flush=True)
    for path in args.explainers:
        explainer = load_explainer(path, classifier)
        maps = torch.cat([explainer(part).mean.detach() for part in images.split(8)])
        print(f"{path}: {pieces(maps):.1f}", flush=True)
        if args.refine_steps:
            refined = explainer.refine(images, classifier, steps=args.refine_steps)
            print(f"{path}, refined: {pieces(refined.posterior.mean):.1f}", flush=True)


if __name__ == "__main__":
    main()
