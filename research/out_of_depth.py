"""Study of how an explainer of the image alone tells which images are unlike its training's.

python research/out_of_depth.py EXPLAINER --photographs DIR

For each kind of features, the Mahalanobis distance is fitted to those of validation digits, with
one false alarm in twenty, and the share of other images is printed that is declared out of depth.
Then, for what the explainer itself declares, whether the confidence in the others is right.
The table of all that was tried is in docs/uncertainty.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from saliency_vae import load_explainer
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.evaluation.uncertainty.corruption import CORRUPTIONS
from saliency_vae.models import Explainer, kept_view
from saliency_vae.models.depth import Depth
from saliency_vae.models.encoders import UNet
from saliency_vae.training.depth import FALSE_ALARMS, fit_depth

DIGITS = "outputs/classifiers/digits_48px_16000x5_seed0.safetensors"
SIZE, BATCH = 48, 100

Features = Callable[[Tensor], Tensor]


def pooled(network: nn.Module, modules: list[nn.Module], *, deviations: bool = False) -> Features:
    """Features of images: the outputs of a network's modules, averaged over the pixels.

    With ``deviations``, their standard deviations over the pixels are appended.
    """

    def features(images: Tensor) -> Tensor:
        found: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            maps = output.flatten(2)
            found.extend([maps.mean(-1), maps.std(-1)] if deviations else [maps.mean(-1)])

        hooks = [module.register_forward_hook(keep) for module in modules]
        network(images)
        for hook in hooks:
            hook.remove()
        return torch.cat(found, dim=1)

    return features


def kinds(explainer: Explainer) -> dict[str, Features]:
    """Features to try, by name."""
    network, encoder = explainer.confidence, explainer.encoder
    assert network is not None
    assert isinstance(encoder, UNet)
    blocks = [block for block in network.imitate if isinstance(block, nn.Sequential)][:-1]
    down = list(encoder.down)
    last = nn.Sequential(*network.imitate[:-1])
    return {
        "confidence network, before its last layer": last,
        "confidence network, all blocks": pooled(network.imitate, blocks),
        "confidence network, first block": pooled(network.imitate, blocks[:1]),
        "confidence network, first two blocks": pooled(network.imitate, blocks[:2]),
        "the same, and deviations": pooled(network.imitate, blocks[:2], deviations=True),
        "encoder, coarsest scale": pooled(encoder, down[-1:]),
        "encoder, all scales": pooled(encoder, down),
        "the encoder's, and deviations": pooled(encoder, down, deviations=True),
    }


def photographs(directory: Path) -> Tensor:
    """Centre crops of photographs, at the size of the digits, (N, 3, H, W)."""
    found = []
    for path in sorted(directory.iterdir()):
        image = Image.open(path).convert("RGB")
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = left, top, left + side, top + side
        small = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box=box)
        found.append(torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8))
    return torch.stack(found).view(-1, SIZE, SIZE, 3).permute(0, 3, 1, 2).float() / 255


def others(digits: Tensor, directory: Path) -> dict[str, Tensor]:
    """Images unlike the training's, by name: of other domains, and strongly corrupted digits."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(200, 3, SIZE, SIZE, generator=generator)
    colours = torch.rand(100, 3, 1, 1, generator=generator)
    greys = torch.linspace(0, 1, 100)[:, None, None, None].expand(-1, 3, -1, -1)
    blank = torch.cat([colours, greys]).expand(-1, -1, SIZE, SIZE)
    made = {"photographs": photographs(directory), "uniform noise": noise, "blank": blank}
    for name, corrupt in CORRUPTIONS.items():
        made[name] = corrupt(digits, 1.0, generator)
    return made


def in_batches(features: Features, images: Tensor) -> Tensor:
    """Features of many images."""
    return torch.cat([features(part) for part in images.split(BATCH)])


@torch.no_grad()
def main() -> None:
    """Print one line for each kind of features, and for each kind of images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainer", help="directory of an explainer of the image alone")
    parser.add_argument("--photographs", type=Path, required=True, help="directory of images")
    parser.add_argument("--digits", default=DIGITS, help="file of the digit classifier")
    parser.add_argument("--images", type=int, default=1000)
    args = parser.parse_args()
    explainer, classifier = load_explainer(args.explainer), cluttered_digits_classifier(args.digits)
    validation, test = (
        ClutteredDigits(split, args.images).images.float() / 255 for split in ("val", "test")
    )
    seen = {"test digits": test, **others(test, args.photographs)}
    print(f"share declared out of depth at {FALSE_ALARMS:.0%} false alarms")
    for name, features in kinds(explainer).items():
        known = in_batches(features, validation)
        depth = Depth(known.shape[1])
        fit_depth(depth, known)
        shares = [
            f"{kind} {float(depth(in_batches(features, images)).float().mean()):.3f}"
            for kind, images in seen.items()
        ]
        print(f"  {name}: {', '.join(shares)}", flush=True)
    print("confidence / share that keeps its decision, of those that are not declared")
    for kind, images in seen.items():
        found = []
        for part in images.split(BATCH):
            posterior = explainer(part)
            kept = classifier(kept_view(part, posterior))
            agreed = classifier.agreement(classifier(part), kept).float()
            found.append(
                torch.stack([posterior.confidence, agreed, posterior.out_of_depth.float()])
            )
        sure, right, unlike = torch.cat(found, dim=1)
        left = unlike == 0
        print(
            f"  {kind}: {sure[left].mean():.3f} / {right[left].mean():.3f} of {int(left.sum())}; "
            f"of all {len(left)}: {sure.mean():.3f} / {right.mean():.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
