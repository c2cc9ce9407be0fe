"""Scoring: every method explains the same images, and its maps are scored in the same way."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Self

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines.merged import merged
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.data.batch import rows
from saliency_vae.evaluation.explaining import attribution_of, explain_batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.progress import Part, Progress
from saliency_vae.evaluation.protocol import (
    KEPT_FRACTIONS,
    PreparedBaseline,
    Protocol,
    with_decision,
)
from saliency_vae.evaluation.scores import Scores
from saliency_vae.metrics import (
    descending_rank,
    gini_index,
    insertion_deletion,
    mask_iou,
    pointing_game,
    relevance_mass,
    relevance_rank,
    timed,
    view_logits,
)
from saliency_vae.topk import num_kept


class _Gathered:
    """Scores of one method, batch by batch, and its maps of the first images."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.curves: dict[str, list[Tensor]] = {}
        self.maps: list[Tensor] = []
        self.seconds = float("inf")  # per image, of the fastest batch; the first batch may warm up
        self.images = 0

    def add(self, part: Part | None) -> None:
        """Add the result of :func:`_score_method` for a batch; None if another partition has it."""
        if part is None:
            return
        for kind, gathered in (("values", self.values), ("curves", self.curves)):
            for name, of_batch in part[kind].items():
                gathered.setdefault(name, []).append(of_batch)
        self.maps.append(part["maps"])
        self.seconds = min(self.seconds, part["seconds"] / part["images"])
        self.images += part["images"]

    @classmethod
    def known(cls, gathered: Mapping[str, Self]) -> dict[str, Self]:
        """Methods with at least one scored image."""
        return {name: part for name, part in gathered.items() if part.images}


def measure(
    images: Images,
    methods: Methods,
    classifier: FrozenClassifier,
    protocol: Protocol,
    progress: Progress,
    *,
    keep: int,
    seed: int = 0,
) -> tuple[Scores, dict[str, Tensor]]:
    """Let all methods explain all images, and score the maps; decisions are computed only once.

    Args:
        images: Images to explain, with true masks where they are known.
        methods: Methods after warming up, since every call is timed.
        classifier: Classifier to explain.
        protocol: How maps are scored.
        progress: Parts that an earlier evaluation with the same settings has done.
        keep: Number of images whose maps are returned.
        seed: Seed of the bootstrap of the scores.

    Returns:
        The scores, and each method's maps of the first images, (keep, H, W), on the CPU. A
        partition returns only what it has measured.

    Raises:
        ValueError: If a true mask is empty, maps are wrong, or there is no method to score.
    """
    limits = _limits(methods, protocol, len(images))
    gathered = {name: _Gathered() for name, limit in limits.items() if limit}
    turns, seen, groups = methods.costly_first(), 0, []
    with tqdm(total=sum(limits.values()), desc="Evaluating", unit="map") as bar:
        for number, undecided in enumerate(images):
            _check_masks(undecided, seen)
            batch = with_decision(undecided, classifier)
            both = classifier, merged(classifier, batch["image"])  # the latter judges faster
            prepared = cache(partial(protocol.prepared_baselines, batch, both[1]))
            for name, part, span in _parts(batch, limits, seen):
                bar.set_postfix_str(name)
                scored = partial(_score_method, part, name, methods, *both, prepared, protocol)
                kept = partial(scored, keep=max(0, keep - seen))
                turn = number + turns.index(name)
                gathered[name].add(progress.rows(f"scores/{name}", span, kept, turn))
                bar.update(len(part["image"]))
            seen += len(batch["image"])
            groups.append(batch.get("group"))
    gathered = _Gathered.known(gathered)
    scores, left_out = _scores(gathered, methods, protocol), protocol.left_out(methods, limits)
    scores = replace(scores, groups=_joined(groups), left_out=left_out, seed=seed)
    return scores, {name: torch.cat(part.maps) for name, part in gathered.items()}


def _limits(methods: Methods, protocol: Protocol, number: int) -> dict[str, int]:
    """Number of images that each method is scored on."""
    limits = {name: protocol.limit(methods, name, number) for name in methods.by_name}
    if not any(limits.values()):
        raise ValueError(
            "Expected a method to score. Found only slow ones: slow_images=N scores them on N "
            "images."
        )
    return limits


def _joined(groups: Sequence[Tensor | None]) -> Tensor | None:
    """Groups of all images, on the CPU; None if any batch has none."""
    known = [of_batch.cpu() for of_batch in groups if of_batch is not None]
    return torch.cat(known) if len(known) == len(groups) else None


def _scores(gathered: Mapping[str, _Gathered], methods: Methods, protocol: Protocol) -> Scores:
    return Scores(
        values=_by_metric({name: part.values for name, part in gathered.items()}),
        curves=_by_metric({name: part.curves for name, part in gathered.items()}),
        seconds={name: part.seconds for name, part in gathered.items()},
        memory={name: size for name, size in methods.memory.items() if name in gathered},
        passes={name: number for name, number in methods.passes.items() if name in gathered},
        roles=methods.roles,
        baseline=protocol.baseline_images[0],
    )


def _parts(
    batch: Batch, limits: Mapping[str, int], seen: int
) -> Iterator[tuple[str, Batch, slice]]:
    """Yield each method with its images of a batch, if any, and their index range."""
    for name, limit in limits.items():
        if limit > seen:
            part = rows(batch, slice(limit - seen))
            yield name, part, slice(seen, seen + len(part["image"]))


def _score_method(
    batch: Batch,
    name: str,
    methods: Methods,
    classifier: FrozenClassifier,
    judge: FrozenClassifier,
    prepared: Callable[[], Mapping[str, PreparedBaseline]],
    protocol: Protocol,
    *,
    keep: int,
) -> Part:
    """Explain and score a batch by one method: values, curves, first maps, seconds, on the CPU.

    The method explains ``classifier``; ``judge``, an equivalent network, classifies the views.
    """
    method = methods.by_name[name]
    explain = partial(explain_batch, method, batch, classifier)
    try:
        maps, seconds = timed(explain, batch["image"].device)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    own = {baseline: found.first(len(maps)) for baseline, found in prepared().items()}
    attribution = attribution_of(method, maps)
    values, curves = score(batch, maps, attribution, judge, own, protocol)
    return {
        "values": {metric: found.cpu() for metric, found in values.items()},
        "curves": {curve: found.cpu() for curve, found in curves.items()},
        "maps": maps[:keep].cpu(),
        "seconds": seconds,
        "images": len(maps),
    }


def score(
    batch: Batch,
    maps: Tensor,
    attribution: Tensor,
    classifier: FrozenClassifier,
    baselines: Mapping[str, PreparedBaseline],
    protocol: Protocol,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Score the maps (B, H, W) of a batch.

    Args:
        batch: Images with the classifier's decision, and with true masks where they are known.
        maps: Saliency maps, (B, H, W).
        attribution: Positive attribution of the maps, (B, H, W), >= 0.
        classifier: Classifier to explain.
        baselines: Baseline images of the batch, by name.
        protocol: How maps are scored.

    Returns:
        Values (B,) by metric, and curves (B, points) by name.
    """
    images, decision = batch["image"], batch["decision"]
    step = -(-maps[0].numel() // protocol.steps)  # rounded up
    first = protocol.baseline_images[0]
    values: dict[str, Tensor] = {}
    curves: dict[str, Tensor] = {}
    for name, prepared in baselines.items():
        suffix = "" if name == first else f"_{name}"
        found = insertion_deletion(
            classifier,
            images,
            maps,
            prepared.baseline,
            step=step,
            target=decision,
            ends=prepared.ends,
        )
        curves[f"insertion{suffix}"], curves[f"deletion{suffix}"] = found.insertion, found.deletion
        values[f"insertion{suffix}"] = found.insertion_auc
        values[f"deletion{suffix}"] = found.deletion_auc
        values[f"srg{suffix}"] = found.symmetric_relevance_gain
    values |= _kept_and_left_out(batch, maps, classifier, baselines[first], protocol.fraction)
    if "mask" in batch:
        values |= _localization(maps, attribution, batch["mask"], protocol.tolerance)
    values["sparsity"] = gini_index(maps)
    return values, curves


def _kept_and_left_out(
    batch: Batch,
    maps: Tensor,
    classifier: FrozenClassifier,
    prepared: PreparedBaseline,
    asked: float,
) -> dict[str, Tensor]:
    """Score the kept view at each share of the pixels, and the left-out view at the asked share.

    Returns:
        Agreement at each share; sufficiency, necessity and loss of the decision at the asked one:
        (B,) each.
    """
    rank = descending_rank(maps)
    fractions = sorted({*KEPT_FRACTIONS, asked})
    kept = [rank < num_kept(fraction, rank[0].numel()) for fraction in fractions]
    at = fractions.index(asked)
    masks = torch.stack([*kept, ~kept[at]], dim=1)
    logits = view_logits(classifier, batch["image"], masks, prepared.baseline)
    decision = batch["decision"][:, None].expand_as(logits)
    stays = classifier.keeps_decision(logits, decision).float()
    probability = classifier.probability(logits, decision)
    percents = [f"{100 * fraction:g}" for fraction in fractions]
    return {
        **{f"agreement_{percent}": stays[:, i] for i, percent in enumerate(percents)},
        f"sufficiency_{percents[at]}": probability[:, at],
        f"necessity_{percents[at]}": prepared.ends.whole - probability[:, -1],
        f"lost_{percents[at]}": 1 - stays[:, -1],
    }


def _localization(
    maps: Tensor, attribution: Tensor, mask: Tensor, tolerance: float
) -> dict[str, Tensor]:
    """Scores of maps and positive attribution against true masks (B, H, W), each (B,)."""
    return {
        "pointing_game": pointing_game(maps, mask, tolerance),
        "iou": mask_iou(maps, mask),
        "relevance_mass": relevance_mass(attribution, mask),
        "relevance_rank": relevance_rank(maps, mask),
    }


def _check_masks(batch: Batch, before: int) -> None:
    if "mask" not in batch:
        return
    empty = (~batch["mask"].flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            "Expected true masks that mark a pixel. "
            f"Found an empty one, of image {before + empty[0]}."
        )


def _by_metric(
    by_method: Mapping[str, Mapping[str, list[Tensor]]],
) -> dict[str, dict[str, Tensor]]:
    """Join the batches of each method and metric: metric, then method, to values of all images."""
    values: dict[str, dict[str, Tensor]] = {}
    for method, by_metric in by_method.items():
        for metric, batches in by_metric.items():
            values.setdefault(metric, {})[method] = torch.cat(batches)
    return values
