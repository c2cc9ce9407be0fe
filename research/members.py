"""Split the shipped explainer: two of its networks together, and each of the other two alone.

python research/members.py --out DIR

The networks were trained apart. So the two alone are independent runs, by which the uncertainty of
the two together can be judged: ``explainer=DIR/pair ensemble=[DIR/third,DIR/fourth]``.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from saliency_vae import load_explainer
from saliency_vae.models.ensemble import Ensemble
from saliency_vae.models.serialization import write_directory
from saliency_vae.models.universal_encoder import UniversalUNet

PARTS = {"pair": (0, 1), "third": (2,), "fourth": (3,)}


def part_of(networks: Ensemble, which: tuple[int, ...]) -> dict[str, Tensor]:
    """Weights of some of the networks, with the names that they have in their own explainer."""
    alone = len(which) == 1
    return {
        f"encoder.unet.{name}" if alone else f"encoder.unet.{place}.{name}": value
        for place, index in enumerate(which)
        for name, value in networks[index].state_dict().items()
    }


def main() -> None:
    """Write the three explainers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    explainer = load_explainer("universal")
    assert isinstance(explainer.encoder, UniversalUNet)
    assert isinstance(explainer.encoder.unet, Ensemble)
    for name, which in PARTS.items():
        node = {**explainer.config.encoder, "members": len(which)}
        config = replace(explainer.config, encoder=node, metrics={})
        state = part_of(explainer.encoder.unet, which)
        (args.out / name).mkdir(parents=True, exist_ok=True)
        write_directory(args.out / name, config, state, {})


if __name__ == "__main__":
    main()
