"""Put universal explainers that were trained apart together as one of several members.

python research/ensemble.py EXPLAINER... --photographs DIR --out DIR

Maps of different trainings differ in scale, which the order of the pixels does not depend on: each
member is scaled so that its maps have the standard deviation of the first one's, over validation
scenes. The weights are written in float16, and read as float32.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from refinement import scenes
from torch import Tensor

from saliency_vae import load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.models import Explainer
from saliency_vae.models.serialization import write_directory

SCENES, SIZE = 24, 128


def spread(explainer: Explainer, images: Tensor) -> float:
    """Mean standard deviation of the maps of images."""
    return float(explainer(images).mean.flatten(1).std(1).mean())


def scaled(explainer: Explainer, scale: float) -> dict[str, Tensor]:
    """Weights of an explainer's network whose maps are ``scale`` times as large."""
    state = dict(explainer.encoder.unet.state_dict())  # type: ignore[union-attr, operator]
    rows = torch.tensor([scale, 1.0])  # of the last layer: mean and log-variance
    state["head.weight"] = state["head.weight"] * rows[:, None, None, None]
    state["head.bias"] = state["head.bias"] * rows + torch.tensor([0.0, 2 * math.log(scale)])
    return state


def main() -> None:
    """Write the explainer, and print the scale of each member."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainers", nargs="+", metavar="EXPLAINER")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=1)
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=SIZE)
    with torch.no_grad():
        images, _ = scenes(args.photographs, classifier, SIZE, SCENES)
    members = [load_explainer(path, classifier) for path in args.explainers]
    spreads = []
    for path, member in zip(args.explainers, members, strict=True):
        member.encoder.copies = args.copies  # type: ignore[assignment]
        spreads.append(spread(member, images))
        print(f"{path}: maps of standard deviation {spreads[-1]:.3f}")
    state = {
        f"encoder.unet.{index}.{name}": value.half()
        for index, member in enumerate(members)
        for name, value in scaled(member, spreads[0] / spreads[index]).items()
    }
    config = members[0].config
    encoder = {**config.encoder, "copies": args.copies, "members": len(members)}
    command = "python research/ensemble.py EXPLAINER... --photographs DIR --out DIR"
    config = replace(config, encoder=encoder, command=command, metrics={})
    write_directory(args.out, config, state, {})
    print(args.out)


if __name__ == "__main__":
    main()
