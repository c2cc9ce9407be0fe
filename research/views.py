"""Study of adding other maps to the universal explainer's, on validation images.

python research/views.py plain agreeing_0.4 shift_4_4 size_75_150 smoothgrad_0.5 --photographs DIR

A variant is one of

- ``plain``: no other maps;
- ``cam_W``, ``edgecam_W``, ``smoothgrad_W``: W times the standardised map of Grad-CAM, of Grad-CAM
  smoothed within the image's regions, or of SmoothGrad is added to the standardised map;
- ``agreeing_W``: as ``edgecam_W``, W multiplied by the correlation of both maps, where positive;
- ``shift_N_P``: mean over N further views of the image, shifted by P pixels;
- ``size_P_Q``: mean over further sizes of the image, in per cent.

Insertion, deletion, pointing game and IoU on scenes, then questions about the cells of 2x2 grids.
With ``--grids 0`` digits are explained instead. No test portion is seen; all that was tried is in
docs/experiments.md.
"""

import argparse
import math
from pathlib import Path

import torch
from refinement import scenes, scored
from torch import Tensor
from torch.nn import functional as F

from saliency_vae import load_explainer
from saliency_vae.baselines import GradCAM, SmoothGrad
from saliency_vae.classifiers import FrozenClassifier, class_target, efficientnet_lite_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.metrics import has_most, region_shares
from saliency_vae.models.edge_aware import edge_aware

SIZE = 128
PART = 8  # images per batch


class Variants:
    """Computes a universal explainer's maps with any variant.

    Args:
        classifier: Classifier to explain.
    """

    def __init__(self, classifier: FrozenClassifier) -> None:
        self.classifier = classifier
        self.explainer = load_explainer("universal", classifier)
        self.cam = GradCAM()
        self.smoothgrad = SmoothGrad()

    def __call__(self, variant: str, images: Tensor, target: Tensor) -> Tensor:
        """Explain images (B, 3, H, W) for targets (B, classes): (B, H, W)."""
        found = [
            self._part(variant, *part)
            for part in zip(images.split(PART), target.split(PART), strict=True)
        ]
        return torch.cat(found)

    def _part(self, variant: str, images: Tensor, target: Tensor) -> Tensor:
        name, *given = variant.split("_")
        numbers = [float(number) for number in given]
        explained = self._explained(images, target)
        if name == "plain":
            return explained
        if name == "shift":
            return self._shifted(images, target, int(numbers[0]), int(numbers[1]))
        if name == "size":
            size = images.shape[-1]
            others = [
                self._explained(resized(images, size * int(p) // 100), target) for p in numbers
            ]
            maps = [explained, *(resized(other[:, None], size)[:, 0] for other in others)]
            return torch.stack([standardised(one) for one in maps]).mean(0)
        method = self.smoothgrad if name == "smoothgrad" else self.cam
        other = method({"image": images, "target": target}, self.classifier).detach()
        if name in ("edgecam", "agreeing"):
            other = edge_aware(other, images)
        mean, other = standardised(explained), standardised(other)
        weight = torch.full((len(images), 1, 1), numbers[0])
        if name == "agreeing":
            weight *= (mean * other).mean((1, 2), keepdim=True).clamp_min(0)  # their correlation
        return mean + weight * other

    def _explained(self, images: Tensor, target: Tensor) -> Tensor:
        return self.explainer(images, target=target).mean.detach()

    def _shifted(self, images: Tensor, target: Tensor, number: int, most: int) -> Tensor:
        """Mean of the image's map and the maps of shifted images, each shifted back."""
        total, seen = self._explained(images, target), torch.ones(images.shape[-2:])
        padded = F.pad(images, [most] * 4, mode="reflect")
        inside = F.pad(torch.ones(images.shape[-2:]), [most] * 4)
        height, width = images.shape[-2:]
        for index in range(number):
            angle = 2 * math.pi * (index + 0.25) / number
            down, right = round(most * math.sin(angle)), round(most * math.cos(angle))
            place = (
                ...,
                slice(most + down, most + down + height),
                slice(most + right, most + right + width),
            )
            maps = torch.zeros(len(images), *padded.shape[-2:])
            maps[place] = self._explained(padded[place].contiguous(), target)
            shown = torch.zeros_like(inside)
            shown[place] = 1
            total += maps[..., most : most + height, most : most + width]
            seen += shown[most : most + height, most : most + width]
        return total / seen


def resized(maps: Tensor, size: int) -> Tensor:
    """Maps or images (B, C, H, W) at another size, smoothed where they shrink."""
    return F.interpolate(maps, (size, size), mode="bilinear", antialias=True)


def standardised(maps: Tensor) -> Tensor:
    """Maps (B, H, W) of mean 0 and standard deviation 1."""
    centred = maps - maps.mean((1, 2), keepdim=True)
    return centred / maps.std((1, 2), keepdim=True).clamp_min(1e-6)


def grids(classifier: FrozenClassifier, images: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """2x2 grids (B, 3, 2H, 2W) of images of different classes, and the cells' classes (B, 4)."""
    classes = classifier(images).argmax(-1)
    generator, found, asked = torch.Generator().manual_seed(0), [], []
    while len(found) < number:
        chosen = torch.randperm(len(images), generator=generator)[:4]
        if len(set(classes[chosen].tolist())) == 4:
            rows = [torch.cat(list(images[pair]), dim=-1) for pair in chosen.split(2)]
            found.append(torch.cat(rows, dim=-2))
            asked.append(classes[chosen])
    return torch.stack(found), torch.stack(asked)


def answered(variants: Variants, variant: str, tiles: Tensor, asked: Tensor) -> str:
    """How often the target's cell has the most positive attribution, and its mean share."""
    number, size = len(tiles), tiles.shape[-1] // 2
    cells = torch.zeros(number, 4, 2 * size, 2 * size, dtype=torch.bool)
    for index in range(4):
        down, right = (size * place for place in divmod(index, 2))
        cells[:, index, down : down + size, right : right + size] = True
    found, share = [], []
    for index in range(4):
        target = class_target(asked[:, index], torch.zeros(number, 1000))
        maps = variants(variant, tiles, target)
        above = maps - maps.flatten(1).median(1).values[:, None, None]
        shares = region_shares(above.clamp_min(0), cells)
        share.append(shares[:, index].mean())
        found.append(has_most(shares)[:, index].float().mean())
    return f"cell {torch.stack(found).mean():.3f}, share {torch.stack(share).mean():.3f}"


def main() -> None:
    """Print one line for each variant."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--photographs", type=Path, help="directory of the photographs")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--grids", type=int, default=20)
    parser.add_argument("--digits", help="file of the digit classifier, with --grids 0")
    args = parser.parse_args()
    if (args.photographs if args.grids else args.digits) is None:
        parser.error("Expected --photographs DIR, or --grids 0 --digits FILE. Found neither.")
    with torch.no_grad():
        if args.grids:
            classifier = efficientnet_lite_classifier(name="lite0", image_size=SIZE)
            images, masks = scenes(args.photographs, classifier, SIZE, args.images)
            tiles, asked = grids(classifier, images, args.grids)
        else:
            classifier = cluttered_digits_classifier(args.digits)
            digits = ClutteredDigits("val", args.images)
            images, masks = digits.images.float() / 255, digits.masks
        target = classifier.decide(classifier(images))
    variants = Variants(classifier)
    for variant in args.variants:
        line = scored(classifier, images, masks, variants(variant, images, target))
        if args.grids:
            line += ", " + answered(variants, variant, tiles, asked)
        print(f"{variant}: {line}", flush=True)


if __name__ == "__main__":
    main()
