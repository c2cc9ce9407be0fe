"""Study of what the shipped explainer's posterior should be, on validation images.

python research/posterior_variants.py --photographs DIR
python research/posterior_variants.py

Each variant is a way to draw maps about the mean, or a standard deviation; none needs a training.
All see the same noise, the same views and the same swaps. Without photographs, it takes digits.
The table of all that was tried is in docs/uncertainty.md.
"""

import argparse
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from refinement import scenes
from torch import Tensor
from torch.nn import functional as F

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.distributions import SaliencyPrior
from saliency_vae.evaluation.uncertainty import explain_batches
from saliency_vae.evaluation.uncertainty.changed_pixels import (
    changed_share,
    scaled_to_change,
)
from saliency_vae.evaluation.uncertainty.decision_views import DecisionViews
from saliency_vae.evaluation.uncertainty.explained_batch import BASELINES, ExplainedBatch
from saliency_vae.evaluation.uncertainty.kept_fraction import TRIED_FRACTIONS, kept_fraction
from saliency_vae.evaluation.uncertainty.predictive import SHARES
from saliency_vae.evaluation.uncertainty.swaps import (
    enlarged,
    in_patches,
    matched_spearman,
    patch_side,
    swap_patches,
)
from saliency_vae.metrics import difference_interval, mean_interval, spearman
from saliency_vae.metrics.ranking import descending_rank
from saliency_vae.models import Explainer
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.perturbations import blurred
from saliency_vae.topk import hard_topk, top_pixels

BATCH, SAMPLES = 12, 4
DIGITS = "outputs/classifiers/digits_48px_16000x5_seed0.safetensors"
REFINE_STEPS = 20
VIEWS = (0.05, 0.1, 0.2, 0.3, 0.5)  # kept fractions of the views whose gradient is taken
CONTROLS = ("one, white", "one, smooth", "distance, smooth")


@dataclass(frozen=True)
class Case:
    """One image's mean map and the quantities that its variance could be computed from.

    Attributes:
        mean: Mean of the posterior, (H, W).
        means: Mean of each member, (members, H, W).
        variances: Variance of each member, (members, H, W).
        gradient: Magnitude of the classifier's smoothed gradient, (H, W).
        view_gradient: Gradient of kept views, see :func:`view_gradients`, (H, W).
        refined: Change of the mean by refinement, mean of 9x9 pixels, (H, W).
        prior: Prior of the maps.
        kept: Kept set of the mean, (H, W) bool.
    """

    mean: Tensor
    means: Tensor
    variances: Tensor
    gradient: Tensor
    view_gradient: Tensor
    refined: Tensor
    prior: SaliencyPrior
    kept: Tensor


def scales(case: Case) -> dict[str, Tensor]:
    """Standard deviations to try, (H, W) each; only their proportions matter."""
    rank = descending_rank(case.mean[None])[0].double()
    number, own = int(case.kept.sum()), case.variances.mean(0)
    between = case.means.var(0, correction=0)
    ranks = descending_rank(case.means).double().std(0) / rank.numel()
    mixture = (own + between).sqrt()
    calm = 1 / (1 + case.gradient / case.gradient.mean())
    calm_view = 1 / (1 + case.view_gradient / case.view_gradient.mean())
    in_logs = (case.variances.log().mean(0) / 2).exp()
    near = [((-(rank - number).abs() / (width * number)).exp()).float() for width in (0.3, 1.0)]
    border = case.mean[case.kept].min()
    return {
        "one": torch.ones_like(case.mean),
        "distance": (case.mean - border).abs(),
        "mixture": mixture,
        "members' own": own.sqrt(),
        "members' own, in logs": in_logs,
        "disagreement": between.sqrt(),
        "disagreement in rank": ranks.float(),
        "near in rank .3": near[0],
        "near in rank 1": near[1],
        "near in rank 1 x mixture": near[1] * mixture,
        "small gradient": calm,
        "small gradient x mixture": calm * mixture,
        "small gradient x near in rank 1": calm * near[1],
        "small gradient x disagreement": calm * between.sqrt(),
        "change by refinement": case.refined,
        "change by refinement + members' own, in logs": case.refined + in_logs,
        "small gradient of kept views": calm_view,
        "small gradient of kept views x members' own, in logs": calm_view * in_logs,
    }


def deviations(case: Case, noise: Tensor) -> dict[str, Tensor]:
    """Deviations from the mean by variant, made from white noise, both (samples, H, W)."""
    smooth = case.prior.colour(noise) / case.prior.stddev
    coarse = F.avg_pool2d(noise[:, None], 9, 1, 4, count_include_pad=False)[:, 0] * 9
    colours = {"white": noise, "smooth": smooth, "blurred": coarse}
    found = {
        f"{name}, {colour}": scale * made
        for name, scale in scales(case).items()
        for colour, made in colours.items()
        if colour != "blurred" or name in ("one", "near in rank 1", "mixture")
    }
    between = case.means - case.mean
    which = torch.arange(len(noise)) % len(between)
    weights = noise.flatten(1)[:, : len(between)]
    low_rank = torch.einsum("nm,mhw->nhw", weights, between) / len(between) ** 0.5
    own = case.variances.mean(0).sqrt()
    return found | {
        "one member's mean": between[which],
        "one member, smooth": between[which] + case.variances[which].sqrt() * smooth,
        "one member, white": between[which] + case.variances[which].sqrt() * noise,
        "low rank": low_rank,
        "low rank + members' own, smooth": low_rank + own * smooth,
    }


@torch.enable_grad()
def view_gradients(
    batch: ExplainedBatch, classifier: FrozenClassifier, masks: list[Tensor]
) -> Tensor:
    """Gradient of the log-odds with respect to the mask of views over a blur, mean of 9x9 pixels.

    Args:
        batch: Images with their decisions.
        classifier: Classifier of the views.
        masks: Kept sets of each view, (B, H, W).

    Returns:
        Root mean square over the views, (B, H, W).
    """
    squares, baseline = [], blurred(batch.images)
    for kept in masks:
        mask = kept.float().requires_grad_()
        view = torch.lerp(baseline, batch.images, mask[:, None])
        odds = classifier.log_odds(classifier(view), batch.decision)
        (gradient,) = torch.autograd.grad(odds.sum(), mask)
        smooth = F.avg_pool2d(gradient[:, None], 9, 1, 4, count_include_pad=False)[:, 0]
        squares.append(smooth.square())
    return torch.stack(squares).mean(0).sqrt()


@torch.no_grad()
def cases(batch: ExplainedBatch, explainer: Explainer, classifier: FrozenClassifier) -> list[Case]:
    """Collect the case of each image of a batch, with the kept set at 10 %."""
    encoder = explainer.encoder
    assert isinstance(encoder, UniversalUNet)
    signals = encoder.signals(batch.images, classifier)
    means, log_variances = encoder.of_members(batch.images, signals).unbind(2)
    gradient, _ = signals.gradients.chunk(2, dim=1)
    kept, mean = top_pixels(batch.posterior.mean, 0.1), batch.posterior.mean
    refined = explainer.refine(batch.images, classifier, steps=REFINE_STEPS).posterior.mean
    moved = F.avg_pool2d((refined - mean)[:, None].abs(), 9, 1, 4, count_include_pad=False)[:, 0]
    of_views = view_gradients(batch, classifier, [top_pixels(mean, share) for share in VIEWS])
    return [
        Case(
            mean[image],
            means[:, image],
            log_variances[:, image].exp(),
            gradient[image].abs().mean(0),
            of_views[image],
            moved[image],
            batch.prior,
            kept[image],
        )
        for image in range(len(mean))
    ]


@torch.no_grad()
def predictive(
    batches: list[ExplainedBatch],
    views: list[DecisionViews],
    of_images: list[list[Case]],
    fraction: float,
    only: list[str] | None,
) -> tuple[Tensor, dict[str, dict[str, Tensor]]]:
    """Whether the mean keeps the decision, (N,), and whether samples do, by variant and share."""
    generator = torch.Generator().manual_seed(0)
    kept_by_mean, found = list[Tensor](), dict[str, dict[str, list[Tensor]]]()
    for batch, seen, parts in zip(batches, views, of_images, strict=True):
        kept_by_mean.append(seen.answers(top_pixels(batch.posterior.mean, fraction)[:, None]).kept)
        masks: dict[tuple[str, str], list[Tensor]] = {}
        for case in parts:
            noise = torch.randn(SAMPLES, *case.mean.shape, generator=generator)
            number = int(case.kept.sum())
            for name, moves in deviations(case, noise).items():
                if only is not None and name not in (*only, *CONTROLS):
                    continue
                total = (case.variances.mean(0) + case.means.var(0, correction=0)).sum()
                drawn = moves * (total / moves.square().sum((-2, -1), keepdim=True)).sqrt()
                kept = hard_topk((case.mean + drawn).flatten(1), number).view_as(drawn)
                changed = changed_share(kept, case.kept)
                found.setdefault(name, {}).setdefault("changed", []).append(changed)
                for share in SHARES:
                    mask = scaled_to_change(case.mean, case.kept, moves, share)
                    masks.setdefault((name, f"{share:.0%}"), []).append(mask)
        for (name, share), made in masks.items():
            answers = seen.answers(torch.stack(made))
            found[name].setdefault(share, []).extend(answers.kept)
            found[name].setdefault(f"p {share}", []).extend(answers.probability)
    joined = {
        name: {what: torch.stack(parts) for what, parts in by.items()} for name, by in found.items()
    }
    return torch.cat(kept_by_mean)[:, 0] == 1, joined


@torch.no_grad()
def print_next_in_rank(
    batches: list[ExplainedBatch], views: list[DecisionViews], fraction: float, judged: Tensor
) -> None:
    """Print how often the decision stays if the pixels next to the threshold change places."""
    kept = []
    for batch, seen in zip(batches, views, strict=True):
        rank = descending_rank(batch.posterior.mean)
        number = int(top_pixels(batch.posterior.mean, fraction)[0].sum())
        changed = [round(share * number) for share in SHARES]
        masks = [
            (rank < number - n) | ((rank >= number) & (rank < number + n)) for n in changed
        ]  # the n lowest of the kept set are replaced by the n highest of the others
        kept.append(seen.answers(torch.stack(masks, dim=1)).kept)
    shares = torch.cat(kept)[judged].mean(0).tolist()
    print("stays if the next in rank change places:", " ".join(f"{share:.3f}" for share in shares))


def print_predictive(judged: Tensor, found: dict[str, dict[str, Tensor]]) -> None:
    """Print how often variants keep the decision; losses minus half the best control's."""
    kept = {name: {w: of[judged].mean(1) for w, of in by.items()} for name, by in found.items()}
    print("changed as drawn at equal variance | stays at 10, 25, 50 % | p | lost minus half")
    for name, by in kept.items():
        parts = [f"{by['changed'].mean():.3f} |"]
        parts += [f"{by[f'{share:.0%}'].mean():.3f}" for share in SHARES]
        parts += ["|", *[f"{by[f'p {share:.0%}'].mean():.3f}" for share in SHARES], "|"]
        for share in SHARES:
            controls = [kept[control][f"{share:.0%}"] for control in CONTROLS if control != name]
            best = max(controls, key=lambda values: float(values.mean()))
            over = difference_interval(1 - by[f"{share:.0%}"], (1 - best) / 2)
            parts.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*map(float, over)))
        print(f"  {name}: {' '.join(parts)}", flush=True)


def swapped_gradients(
    batches: list[ExplainedBatch], classifier: FrozenClassifier, baseline: str
) -> list[Tensor]:
    """Gradients of the very views whose patches the swap test swaps: the best a gradient can do."""
    height, width = batches[0].images.shape[-2:]
    enlarge = partial(enlarged, height=height, width=width)
    patches = [in_patches(batch.posterior.mean, patch_side(height, width)) for batch in batches]
    views = [batch.views(classifier, baseline) for batch in batches]
    share = kept_fraction(views, patches, enlarge) or TRIED_FRACTIONS[-1]
    return [
        view_gradients(batch, classifier, [enlarge(top_pixels(scores, share))])
        for batch, scores in zip(batches, patches, strict=True)
    ]


@torch.no_grad()
def print_swaps(
    batches: list[ExplainedBatch],
    classifier: FrozenClassifier,
    baseline: str,
    of_images: list[list[Case]],
) -> None:
    """Print how well each standard deviation predicts where swaps hardly affect the output."""
    # The kept set affects only the nearness scales; patches have their own nearness.
    maps = [[scales(case) for case in part] for part in of_images]
    further = [{f: torch.stack([of[f] for of in part]) for f in part[0]} for part in maps]
    for part, own in zip(further, swapped_gradients(batches, classifier, baseline), strict=True):
        part["small gradient of the view that is swapped"] = -own
    swaps = swap_patches(batches, classifier, baseline, further)
    if swaps is None:
        print("  no swaps: the kept views keep fewer than half of the decisions")
        return
    calm, faint = -swaps["effect"], -swaps["uncertainties"]["lack of saliency"]
    print(f"swaps at {swaps['fraction']:.0%}: all patches | at equal saliency")
    for name, values in swaps["uncertainties"].items():
        both = spearman(values, calm), matched_spearman(values, calm, faint)
        intervals = ["{:.3f} [{:.3f}, {:.3f}]".format(*mean_interval(each)) for each in both]
        print(f"  {name}: {' | '.join(intervals)}", flush=True)


def explained_images(args: argparse.Namespace) -> tuple[FrozenClassifier, Tensor]:
    """Classifier and validation images, of scenes or digits."""
    if args.photographs is None:
        classifier = cluttered_digits_classifier(args.digits)
        digits = ClutteredDigits("val", args.images)
        return classifier, digits.images.float() / 255
    classifier = efficientnet_lite_classifier(name="lite0", image_size=128)
    return classifier, scenes(args.photographs, classifier, 128, args.images)[0]


def main() -> None:
    """Print one line for each variant and test."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--digits", default=DIGITS, help="file of the digit classifier")
    parser.add_argument("--explainer", default="universal", help="name or directory")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="with the controls; or all")
    parser.add_argument("--baselines", nargs="+", choices=BASELINES, default=BASELINES)
    args = parser.parse_args()
    with torch.no_grad():
        classifier, images = explained_images(args)
    explainer = load_explainer(args.explainer, classifier)
    batches = explain_batches(
        [{"image": part} for part in images.split(BATCH)], explainer, classifier
    )
    of_images = [cases(batch, explainer, classifier) for batch in batches]
    for baseline in args.baselines:
        views = [batch.views(classifier, baseline) for batch in batches]
        fraction = kept_fraction(views, [batch.posterior.mean for batch in batches])
        print(f"{baseline}: {fraction} of the pixels kept", flush=True)
        print_swaps(batches, classifier, baseline, of_images)
        if fraction is None:
            continue
        kept_there = [
            [replace(case, kept=top_pixels(case.mean[None], fraction)[0]) for case in part]
            for part in of_images
        ]
        judged, found = predictive(batches, views, kept_there, fraction, args.only)
        print(f"{int(judged.sum())} of {len(judged)} mean maps keep their decision")
        print_next_in_rank(batches, views, fraction, judged)
        print_predictive(judged, found)


if __name__ == "__main__":
    main()
