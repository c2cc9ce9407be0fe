"""How many of several sampled maps an importance-weighted objective (IWAE) would learn from.

python research/importance_weights.py EXPLAINER

Burda et al. (2016) weigh the gradients of several samples of an image by p(y | s) p(s) / q(s | x).
For validation digits and an explainer of the image alone, this prints how unequal the weights are:
their effective number, 1 / sum of squares, and the spread of their logarithms. The reconstruction
counts as the objective's beta says, or, by itself, once. What follows is in docs/uncertainty.md.
"""

import argparse

import torch
from torch import Tensor

from saliency_vae import load_explainer
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.digit_images import ClutteredDigits

DIGITS = "outputs/classifiers/digits_48px_16000x5_seed0.safetensors"


def effective(log_weights: Tensor) -> Tensor:
    """Effective sample size for log-weights (samples, N): (N,)."""
    return 1 / log_weights.softmax(0).square().sum(0)


@torch.no_grad()
def main() -> None:
    """Print the effective sample size for each kind of weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("explainer", help="directory of an explainer of the image alone")
    parser.add_argument("--digits", default=DIGITS, help="file of the digit classifier")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8)
    args = parser.parse_args()
    torch.manual_seed(0)
    explainer, classifier = load_explainer(args.explainer), cluttered_digits_classifier(args.digits)
    objective = explainer.objective()
    images = ClutteredDigits("val", args.images).images.float() / 255
    posterior, prior = explainer(images), explainer.prior(images)
    original = classifier(images)
    uniform = torch.full((len(images),), 0.5)  # one fraction, so that only the maps differ
    lost, ratio = [], []
    for _ in range(args.samples):
        maps = posterior.rsample()
        views = objective.views(maps, images, original, classifier, uniform=uniform)
        lost.append(objective(views, posterior, prior, classifier).reconstruction)
        ratio.append(prior.log_prob(maps) - posterior.log_prob(maps))
    reconstruction, densities = -torch.stack(lost), torch.stack(ratio)
    scale = posterior.event_shape.numel() / objective.beta
    for name, log_weights in (
        ("all", scale * reconstruction + densities),
        ("p(s) / q(s | x) alone", densities),
        ("p(y | s) alone, as beta says", scale * reconstruction),
        ("p(y | s) alone, once", reconstruction),
    ):
        print(
            f"{name}: {effective(log_weights).mean():.2f} of {args.samples} samples, "
            f"standard deviation of the log-weights {log_weights.std(0).mean():.3g} nats"
        )


if __name__ == "__main__":
    main()
