"""Draw docs/photographs.png, methods beside each other on four photographs, and docs/panel.png.

python docs/draw_photographs.py

The photographs are those that scikit-image ships (public domain or CC0). Needs the extras
``efficientnet-lite`` and ``rivals``.
"""

from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import Tensor

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.baselines import GradCAM, SmoothGrad
from saliency_vae.classifiers import class_target, efficientnet_lite_classifier
from saliency_vae.data import Batch
from saliency_vae.perturbations import blurred, perturb
from saliency_vae.topk import top_pixels

PHOTOGRAPHS = ("chelsea", "coffee", "astronaut", "rocket")
KEPT = 0.25  # share of the pixels in the kept view
ROOT = Path(__file__).parent


def read(name: str, size: int) -> Tensor:
    """Central square of a photograph of scikit-image, (3, size, size) in [0, 1]."""
    pixels: NDArray[np.uint8] = getattr(data, name)()
    photograph = Image.fromarray(pixels)
    side = min(photograph.size)
    left, top = ((length - side) // 2 for length in photograph.size)
    square = photograph.resize((size, size), box=(left, top, left + side, top + side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255


def rank(saliency: Tensor) -> NDArray[np.float32]:
    """Share of the pixels of a map (H, W) that are less salient, at each pixel."""
    order = saliency.flatten().argsort().argsort().float() / (saliency.numel() - 1)
    ranks: NDArray[np.float32] = order.view_as(saliency).numpy()
    return ranks


def maps(image: Tensor, target: Tensor, classifier: FrozenClassifier) -> dict[str, Tensor]:
    """Maps of an image (1, 3, H, W) for a target (1, classes), by the name of the method."""
    universal = load_explainer("universal", classifier)
    found = {"universal": universal(image, target).mean[0]}
    batch: Batch = {"image": image, "target": target}
    found["SmoothGrad"] = SmoothGrad()(batch, classifier)[0]
    found["Grad-CAM"] = GradCAM()(batch, classifier)[0]
    return {name: saliency.detach() for name, saliency in found.items()}


def draw_panel(classifier: FrozenClassifier) -> None:
    """Draw the panel that ``explain`` makes of a photograph."""
    found = load_explainer("universal", classifier).explain(data.coffee(), fraction=KEPT)
    replace(found, source=replace(found.source, name="coffee.png")).save(ROOT / "panel.png")
    print(ROOT / "panel.png")


def main() -> None:
    """Draw a row for each photograph, and the panel of one."""
    classifier = efficientnet_lite_classifier("lite0")
    draw_panel(classifier)
    size = classifier.preprocessing.crop_size or 224
    side = size if isinstance(size, int) else size[0]
    rows = []
    for name in PHOTOGRAPHS:
        image = read(name, side)[None]
        with torch.no_grad():
            logits = classifier(image)
        decision = int(logits.argmax())
        found = maps(image, class_target(torch.tensor([decision]), logits), classifier)
        rows.append((image, classifier.top(logits)[0][0], found))
    columns = ["image", *rows[0][2], f"top {KEPT:.0%} kept"]
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(2.2 * len(columns), 2.35 * len(rows)), squeeze=False
    )
    for line, (image, (category, probability), found) in zip(axes, rows, strict=True):
        shown = image[0].permute(1, 2, 0).numpy()
        line[0].imshow(shown)
        line[0].set_xlabel(f"{category} {probability:.0%}", fontsize=9)
        for axis, saliency in zip(line[1:], found.values(), strict=False):
            axis.imshow(shown.mean(-1), cmap="gray", alpha=0.6)
            axis.imshow(rank(saliency), cmap="magma", alpha=0.65, vmin=0.3)
        mask = top_pixels(found["universal"].reshape(1, side, side), KEPT)
        line[-1].imshow(perturb(image, mask, blurred(image))[0].permute(1, 2, 0).numpy())
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.tight_layout()
    figure.savefig(ROOT / "photographs.png", dpi=80)
    print(ROOT / "photographs.png")


if __name__ == "__main__":
    main()
