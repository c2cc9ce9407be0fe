"""Fit the variance of the shipped explainer to the objective's reconstruction, on training scenes.

python research/fit_variance_by_loss.py --photographs DIR --out DIR

The means stay as they are. A linear map of the networks' last features gives the log-deviation;
maps are drawn and scaled to change a quarter of the kept set, and the map is fitted so that the
kept views keep the target. What it is worth is measured by research/posterior_variants.py; the
results are in docs/uncertainty.md.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from fit_variance import BASELINES, Features, training_images, with_rows
from torch import Tensor
from torch.nn import functional as F

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.distributions import SaliencyPrior
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES
from saliency_vae.evaluation.uncertainty import explain_batches
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.models.serialization import write_directory
from saliency_vae.perturbations import perturb
from saliency_vae.topk import soft_topk

SHARE = 0.25  # of the kept set that drawn maps change
FRACTIONS = 0.05, 0.6
SOFTNESS = 0.1  # temperature of the top-k, in standard deviations of a map


def scale_to_change(mean: Tensor, kept: Tensor, moves: Tensor) -> Tensor:
    """Scale at which deviations change a share of the kept sets, (B, 1): by halving in powers."""
    low, high = mean.new_full((len(mean), 1), -12.0), mean.new_full((len(mean), 1), 12.0)
    number = kept.sum(1, keepdim=True)
    for _ in range(18):
        middle = (low + high) / 2
        rank = descending_rank((mean + middle.exp2() * moves)[:, None]).flatten(1)
        changed = ((rank < number) & ~kept).sum(1, keepdim=True)
        low = torch.where(changed < SHARE * number, middle, low)
        high = torch.where(changed < SHARE * number, high, middle)
    return high.exp2()


def drawn_masks(mean: Tensor, kept: Tensor, moves: Tensor) -> Tensor:
    """Masks of drawn maps that change as many pixels whatever the deviations are, (B, HW).

    The scale follows the deviations by the implicit gradient of the number of changed pixels.
    """
    temperature = SOFTNESS * float(mean.std(1).mean())
    number = kept.sum(1).to(mean)

    def masks(scale: Tensor, moved: Tensor) -> Tensor:
        return soft_topk(mean + scale * moved, number, temperature=temperature)

    scale = scale_to_change(mean, kept, moves.detach())
    leaf = scale.clone().requires_grad_()
    by_scale = (masks(leaf, moves.detach()) * ~kept).sum(1)
    (slope,) = torch.autograd.grad(by_scale.sum(), leaf)
    changed = (masks(scale, moves) * ~kept).sum(1, keepdim=True)
    following = scale - (changed - changed.detach()) / slope.clamp_min(1e-3)
    soft = masks(following, moves)
    return (soft >= 0.5).to(soft) + (soft - soft.detach())


def seen(
    args: argparse.Namespace,
) -> list[tuple[FrozenClassifier, Tensor, Tensor, Tensor, Tensor, SaliencyPrior]]:
    """Batches of classifier, images, targets, mean maps, features at half resolution and prior."""
    explainer = load_explainer(args.explainer)
    features, found = Features(explainer), []
    for classifier, images in training_images(args.photographs, args.scenes, args.digits):
        explainer.attach_classifier(classifier, force=True)
        (batch,) = explain_batches([{"image": images}], explainer, classifier)
        pooled = F.avg_pool2d(features.take(), 2).half()
        found.append(
            (classifier, images, batch.decision, batch.posterior.mean, pooled, batch.prior)
        )
    return found


def main() -> None:
    """Fit for a while, and write the explainer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--explainer", default="universal", help="name or directory")
    parser.add_argument("--scenes", type=int, default=192)
    parser.add_argument("--digits", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--smooth", action="store_true", help="draw smooth maps, not white noise")
    args = parser.parse_args()
    torch.manual_seed(0)
    with torch.no_grad():
        batches = seen(args)
    spread = torch.cat([b[4].float().flatten(2).std(2) for b in batches]).mean(0).clamp_min(1e-3)
    weights = torch.zeros_like(spread, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=args.rate)
    start, losses, step = time.monotonic(), list[float](), 0
    while time.monotonic() - start < args.seconds:
        classifier, images, decision, mean, pooled, prior = batches[step % len(batches)]
        some = torch.randperm(len(images))[:12]
        image, target, scores = images[some], decision[some], mean[some].flatten(1)
        log_deviation = torch.einsum("bchw,c->bhw", pooled[some].float(), weights / spread)
        log_deviation = F.interpolate(log_deviation[:, None], image.shape[-2:], mode="bilinear")
        log_deviation = log_deviation.flatten(1)
        noise = torch.randn(len(some), *image.shape[-2:])
        noise = prior.colour(noise) / prior.stddev if args.smooth else noise
        deviation = (log_deviation - log_deviation.mean(1, keepdim=True)).exp()
        low, high = FRACTIONS
        number = (low * (high / low) ** torch.rand(len(some), 1)) * scores.shape[1]
        kept = descending_rank(mean[some]).flatten(1) < number.round()
        mask = drawn_masks(scores, kept, deviation * noise.flatten(1)).view_as(noise)
        baseline = BASELINE_IMAGES[BASELINES[step % 3]](image, classifier)
        assert isinstance(baseline, Tensor)
        logits = classifier(perturb(image, mask, baseline))
        loss = -classifier.log_probability(logits, target).mean() + 1e-3 * weights.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
        step += 1
        if step % 50 == 0:
            recent = torch.tensor(losses[-50:]).mean()
            print(f"step {step}: {recent:.4f}, weights {weights.norm():.3f}", flush=True)
    explainer = load_explainer(args.explainer)
    final = (weights / spread).detach()
    middle = torch.cat([torch.einsum("bchw,c->b", b[4].float(), final) for b in batches]).mean()
    middle = middle / batches[0][4][0, 0].numel()
    state = with_rows(explainer, final, 1.0, -2 * float(middle))
    config = replace(explainer.config, metrics={})
    write_directory(args.out / "explainer", config, {k: v.half() for k, v in state.items()}, {})


if __name__ == "__main__":
    main()
