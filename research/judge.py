"""Judge universal explainers on validation scenes: insertion, deletion, pointing game and IoU.

python research/judge.py universal DIR... --photographs DIR

Each is judged as it is, and with other shares of the mean smoothed within the image's regions
(``--edge-aware``). No test portion is seen.
"""

import argparse
from pathlib import Path

import torch
from refinement import scenes, scored

from saliency_vae import load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.models.universal_encoder import UniversalUNet


def main() -> None:
    """Print one line for each explainer and share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainers", nargs="+", metavar="EXPLAINER")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--edge-aware", type=float, nargs="*", default=[], metavar="SHARE")
    parser.add_argument("--name", default="lite0", help="lite0 or lite1")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=40)
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name=args.name, image_size=args.size)
    with torch.no_grad():
        images, masks = scenes(args.photographs, classifier, args.size, args.images)
    for path in args.explainers:
        explainer = load_explainer(path, classifier)
        assert isinstance(explainer.encoder, UniversalUNet)
        for share in args.edge_aware or [explainer.encoder.edge_aware]:
            explainer.encoder.edge_aware = share
            maps = torch.cat([explainer(part).mean.detach() for part in images.split(8)])
            line = scored(classifier, images, masks, maps)
            print(f"{path}, {share:g} smoothed: {line}", flush=True)


if __name__ == "__main__":
    main()
