"""How many of the alternative maps that are shown keep the decision, and how much they overlap.

python research/alternatives.py --photographs DIR
python research/alternatives.py --images 64

Compared with the first maps drawn from the posterior of the shipped explainer, on validation
images over a blur, where the mean map keeps the decision. Without photographs, it takes digits.
"""

import argparse
from pathlib import Path

import torch
from posterior_variants import BATCH, DIGITS, explained_images
from torch import Tensor

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.inference.alternatives import DRAWS, choose_alternatives
from saliency_vae.inference.predict import draw_maps
from saliency_vae.metrics import view_logits
from saliency_vae.models import Explainer
from saliency_vae.perturbations import blurred
from saliency_vae.topk import top_pixels

NUMBER = 4
FRACTIONS = (0.05, 0.1, 0.3)


def overlaps(sets: Tensor) -> Tensor:
    """Mean and highest overlap of two of the sets (B, n, h, w): (B, 2)."""
    flat = sets.flatten(2).float()
    shared = flat @ flat.mT / flat[:1, :1].sum()
    first, second = torch.triu_indices(*shared.shape[1:], offset=1)
    pairs = shared[:, first, second]
    return torch.stack([pairs.mean(1), pairs.amax(1)], dim=1)


def measured(
    images: Tensor, explainer: Explainer, classifier: FrozenClassifier, fraction: float
) -> Tensor:
    """Share that stays, mean and highest overlap of first draws and of alternatives: (n, 2, 3)."""
    posterior, baseline = explainer(images), blurred(images)
    drawn = top_pixels(draw_maps(posterior, DRAWS * NUMBER, seed=0), fraction)
    mean = posterior.topk_mask(fraction)
    masks = torch.cat([mean[:, None], drawn], dim=1)
    decision = classifier.decide(classifier(images))[:, None]
    logits = view_logits(classifier, images, masks, baseline)
    of_mean, stays = classifier.keeps_decision(logits, decision).tensor_split([1], dim=1)
    chosen = choose_alternatives(mean, drawn, stays, NUMBER)
    first = torch.arange(NUMBER).expand(len(images), -1)
    rows = torch.arange(len(images))[:, None]
    found = [
        torch.cat([stays[rows, which].float().mean(1, True), overlaps(drawn[rows, which])], dim=1)
        for which in (first, chosen)
    ]
    return torch.stack(found, dim=1)[of_mean[:, 0]]


@torch.no_grad()
def main() -> None:
    """Print one line for each fraction."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--digits", default=DIGITS, help="file of the digit classifier")
    parser.add_argument("--images", type=int, default=24)
    args = parser.parse_args()
    classifier, images = explained_images(args)
    explainer = load_explainer("universal", classifier)
    print("kept, images | stay, mean overlap, highest overlap: first draws | alternatives")
    for fraction in FRACTIONS:
        parts = [measured(x, explainer, classifier, fraction) for x in images.split(BATCH)]
        found = torch.cat(parts)
        rows = [" / ".join(f"{value:.3f}" for value in row) for row in found.mean(0).tolist()]
        print(f"{fraction:.0%}, {len(found)} | {' | '.join(rows)}", flush=True)


if __name__ == "__main__":
    main()
