"""Study of smoothing the universal explainer's maps, on validation images.

python research/smoothing.py plain gaussian_0.5_2 edge_0.5 --photographs DIR

A variant is a filter and the share of the map that it replaces: a Gaussian of some pixels, or the
edge-aware filter. No test portion is seen. All that was tried is in docs/experiments.md.
"""

import argparse
from pathlib import Path

import torch
from refinement import scenes, scored
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from saliency_vae import load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.models.edge_aware import edge_aware
from saliency_vae.models.universal_encoder import UniversalUNet

SIZE = 128


def smoothed(maps: Tensor, images: Tensor, variant: str) -> Tensor:
    """Smooth maps (B, H, W) by a variant, such as ``edge_0.5``."""
    name, *numbers = variant.split("_")
    if name == "plain":
        return maps
    share, *sigma = map(float, numbers)
    if name == "edge":
        return torch.lerp(maps, edge_aware(maps, images), share)
    window = 2 * round(3 * sigma[0]) + 1
    return torch.lerp(maps, gaussian_blur(maps, [window, window], sigma), share)


def main() -> None:
    """Print one line for each variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40)
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=SIZE)
    explainer = load_explainer("universal", classifier)
    assert isinstance(explainer.encoder, UniversalUNet)
    explainer.encoder.edge_aware = 0.0
    with torch.no_grad():
        images, masks = scenes(args.photographs, classifier, SIZE, args.images)
        maps = torch.cat([explainer(part).mean for part in images.split(8)])
        for variant in args.variants:
            line = scored(classifier, images, masks, smoothed(maps, images, variant))
            print(f"{variant}: {line}", flush=True)


if __name__ == "__main__":
    main()
