"""Put universal explainers that were trained apart together as one of several members.

python research/ensemble.py EXPLAINER... --photographs DIR --out DIR

Maps of different trainings differ in scale, which the order of the pixels does not depend on: each
member is scaled so that its maps have the standard deviation of the first one's, over validation
scenes. A share of the mean is smoothed within the image's regions. The weights are written in
float16, and read as float32. Each member and the whole are judged on these scenes; no test portion
is looked at.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from refinement import scenes, scored
from torch import Tensor

from saliency_vae import load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.models.serialization import write_directory
from saliency_vae.models.universal_encoder import UniversalUNet

SIZE = 128


def scaled(encoder: UniversalUNet, scale: float) -> dict[str, Tensor]:
    """Weights of an encoder's network that make its maps ``scale`` times as large."""
    state = dict(encoder.unet.state_dict())
    rows = torch.tensor([scale, 1.0])  # of the last layer: mean and log-variance
    state["head.weight"] = state["head.weight"] * rows[:, None, None, None]
    state["head.bias"] = state["head.bias"] * rows + torch.tensor([0.0, 2 * math.log(scale)])
    return state


def main() -> None:
    """Write the ensemble, and print the scores of each member and of the whole."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainers", nargs="+", metavar="EXPLAINER")
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--edge-aware", type=float, default=0.5, metavar="SHARE")
    parser.add_argument("--images", type=int, default=48, help="validation scenes")
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=SIZE)
    with torch.no_grad():
        images, masks = scenes(args.photographs, classifier, SIZE, args.images)
    members = [load_explainer(path, classifier) for path in args.explainers]
    encoders, spreads = list[UniversalUNet](), list[float]()
    for path, member in zip(args.explainers, members, strict=True):
        assert isinstance(member.encoder, UniversalUNet)
        encoders.append(member.encoder)
        member.encoder.copies = args.copies
        found = member(images).mean
        spreads.append(float(found.flatten(1).std(1).mean()))
        line = scored(classifier, images, masks, found)
        print(f"{path}: {line}, standard deviation {spreads[-1]:.3f}", flush=True)
    state = {
        f"encoder.unet.{index}.{name}": value.half()
        for index, encoder in enumerate(encoders)
        for name, value in scaled(encoder, spreads[0] / spreads[index]).items()
    }
    config = members[0].config
    node = {**config.encoder, "copies": args.copies, "members": len(members)}
    node["edge_aware"] = args.edge_aware
    command = "python research/ensemble.py EXPLAINER... --photographs DIR --out DIR"
    config = replace(config, encoder=node, command=command, metrics={})
    write_directory(args.out, config, state, {})
    whole = load_explainer(args.out, classifier)
    print(f"{args.out}: {scored(classifier, images, masks, whole(images).mean)}")


if __name__ == "__main__":
    main()
