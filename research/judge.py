"""Judge universal explainers on validation scenes: insertion, deletion, pointing game and IoU.

python research/judge.py universal DIR... --photographs DIR

EfficientNet-Lite0; no test portion is seen.
"""

import argparse
from pathlib import Path

import torch
from refinement import scenes, scored

from saliency_vae import load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier

SIZE = 128


def main() -> None:
    """Print one line for each explainer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainers", nargs="+", metavar="EXPLAINER")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40)
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=SIZE)
    with torch.no_grad():
        images, masks = scenes(args.photographs, classifier, SIZE, args.images)
    for path in args.explainers:
        explainer = load_explainer(path, classifier)
        maps = torch.cat([explainer(part).mean.detach() for part in images.split(8)])
        print(f"{path}: {scored(classifier, images, masks, maps)}", flush=True)


if __name__ == "__main__":
    main()
