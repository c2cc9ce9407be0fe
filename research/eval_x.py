"""Test of encoding (EVAL-X) on cut-outs: do kept views convince a judge that is used to masks?

python research/eval_x.py --photographs DIR

A small network is trained, in minutes, to tell ten objects apart, on scenes with training
photographs. The judge is a copy of it, tuned on views of the same scenes through random masks. A
mask that passes on the class by its shape convinces the classifier, but not the judge. The maps are
judged on scenes of the same objects on validation photographs; no test portion is seen.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.baselines import GradCAM, Method, PerImageOptimisation, RandomMap, SmoothGrad
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.data import Preprocessing
from saliency_vae.data.cutout_files import Split, files_of, is_solid, load_rgba
from saliency_vae.data.cutout_scenes import Cutouts
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.evaluation.eval_x import eval_x, tune_on_random_masks
from saliency_vae.evaluation.methods import ExplainerMethod, RefinedExplainer
from saliency_vae.perturbations import blurred

CLASSES = 10  # objects that the classifier distinguishes
FRACTIONS = (0.05, 0.1, 0.2, 0.4)  # shares of the pixels kept
SIZE = 64  # pixels
BATCH = 32


def over_blur(images: Tensor, kept: Tensor) -> Tensor:
    """Keep pixels (n, H, W) bool of images (n, 3, H, W), and blur the others."""
    return torch.where(kept[:, None], images, blurred(images))


def of_ten_objects(photographs: Path, split: Split, number: int) -> Cutouts:
    """Scenes of the first ten validation objects; an object's group is its class.

    The backgrounds are photographs of the given split.
    """
    cutouts = [load_rgba(file) for file in files_of("val", photographs / "cutouts")]
    backgrounds = files_of(split, photographs / "backgrounds")
    made = Cutouts(
        split,
        [cutout for cutout in cutouts if is_solid(cutout)][:CLASSES],
        [load_rgb(file) for file in backgrounds],
        range(number),
        seed=0,
        image_size=SIZE,
        number=(1, 1),
    )
    made.groups = range(CLASSES)
    return made


def gathered(data: Cutouts) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) in [0, 1] of all scenes, and the class of each, (N,)."""
    items = [data[index] for index in range(len(data))]
    images, labels = (torch.stack([item[key] for item in items]) for key in ("image", "group"))
    return images.float() / 255, labels


def endless(images: Tensor) -> Iterator[Tensor]:
    """Yield batches (B, 3, H, W) of images in random order, without end."""
    generator = torch.Generator().manual_seed(0)
    while True:
        order = torch.randperm(len(images), generator=generator)
        yield from (images[part] for part in order.split(BATCH) if len(part) == BATCH)


def small(photographs: Path, number: int, epochs: int) -> tuple[FrozenClassifier, Tensor, Tensor]:
    """Train a small classifier; return it, its training images, and test images it gets right."""
    images, labels = gathered(of_ten_objects(photographs, "train", number))
    torch.manual_seed(0)
    network = DigitNet().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.2)
    steps = epochs * (number // BATCH)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    data = TensorDataset(images, labels)
    for _ in range(epochs):
        for batch, of_batch in DataLoader(data, BATCH, shuffle=True, drop_last=True):
            seen = batch.contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(network(seen), of_batch, label_smoothing=0.05)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            rate.step()
    preprocessing = Preprocessing(SIZE, (SIZE, SIZE))
    classifier = FrozenClassifier(network.eval(), name="ten cut-outs", preprocessing=preprocessing)
    test, truth = gathered(of_ten_objects(photographs, "val", 200))
    right = classifier(test).argmax(1) == truth
    print(f"The small classifier is right about {right.float().mean():.1%} of 200 scenes.")
    return classifier, images, test[right]


def compared(classifier: FrozenClassifier) -> dict[str, Method]:
    """Methods to compare, by name."""
    explainer = load_explainer("universal", classifier)
    return {
        "universal": ExplainerMethod(explainer),
        "universal, refined": RefinedExplainer(explainer, 30),
        "per-image optimisation": PerImageOptimisation(steps=60),
        "SmoothGrad": SmoothGrad(),
        "Grad-CAM": GradCAM(),
        "random": RandomMap(),
    }


def main() -> None:
    """Print the judge's quality, and each method's EVAL-X score by classifier and by judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=100, help="at most, to judge maps on")
    parser.add_argument("--scenes", type=int, default=5000, help="of the training")
    parser.add_argument("--epochs", type=int, default=6, help="of the training")
    parser.add_argument("--steps", type=int, default=400, help="of the tuning")
    parser.add_argument("--lr", type=float, default=1e-3, help="of the tuning")
    args = parser.parse_args()
    classifier, images, test = small(args.photographs, args.scenes, args.epochs)
    test = test[: args.images]
    judge = tune_on_random_masks(
        classifier, endless(images), over_blur, test, steps=args.steps, lr=args.lr
    )
    print(f"{len(test)} images: {judge}", flush=True)
    with torch.no_grad():
        decisions = classifier.decide(classifier(test))
    for name, method in compared(classifier).items():
        maps = torch.cat([method({"image": x}, classifier).detach() for x in test.split(10)])
        parts = []
        for fraction in FRACTIONS:
            agreed = [
                eval_x(by, {name: maps}, test, decisions, over_blur, fraction=fraction)[name].mean()
                for by in (classifier, judge.classifier)
            ]
            parts.append("{:.0f} %: {:.3f} / {:.3f}".format(100 * fraction, *agreed))
        print(f"{name}, classifier / judge: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
