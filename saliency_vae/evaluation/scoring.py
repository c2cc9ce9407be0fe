"""Scoring: every method explains the same images, and its maps are scored in the same way."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Self

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.data.batch import rows
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES, IMPUTATIONS, Baseline
from saliency_vae.evaluation.explaining import explain_batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.progress import Part, Progress
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import title
from saliency_vae.metrics import (
    CurveEnds,
    curve_ends,
    gini_index,
    insertion_deletion,
    kept_agreement,
    mask_iou,
    masked_view,
    pointing_game,
    relevance_mass,
    relevance_rank,
    timed,
)

KEPT_FRACTIONS = (0.05, 0.1, 0.2, 0.4, 0.8)  # shares of the pixels kept for the agreement


@dataclass(frozen=True)
class Protocol:
    """How the maps of methods are scored.

    Attributes:
        baseline_images: Names of the baseline images for insertion and deletion; the first one is
            also that of the kept views.
        steps: Number of steps of insertion and deletion.
        tolerance: Distance from the true object that the pointing game still counts as a hit,
            pixels.
        slow_images: Number of images that slow methods are scored on; None for all.

    Raises:
        ValueError: If a name is unknown or a number out of range.

    Example:
        >>> from torch import nn
        >>> classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), name="toy")
        >>> images = torch.tensor([0.0, 0.2, 0.4, 0.6]).view(1, 1, 2, 2).expand(1, 3, 2, 2)
        >>> made = Protocol(["zero", "mean"]).make_baseline_images(images, classifier)
        >>> {name: round(float(image[0, 0, 0, 0]), 3) for name, image in made.items()}
        {'zero': 0.0, 'mean': 0.3}
    """

    baseline_images: Sequence[str] = ("blur",)
    steps: int = 24
    tolerance: float = 0.0
    slow_images: int | None = None

    def __post_init__(self) -> None:
        if not self.baseline_images or not set(self.baseline_images) <= BASELINE_IMAGES.keys():
            raise ValueError(
                f"Expected baseline_images among {', '.join(BASELINE_IMAGES)}. "
                f"Found {', '.join(self.baseline_images) or 'none'}."
            )
        if self.steps < 1 or self.tolerance < 0:
            raise ValueError(
                f"Expected steps >= 1 and tolerance >= 0 pixels. "
                f"Found {self.steps} and {self.tolerance}."
            )

    def make_baseline_images(
        self, images: Tensor, classifier: FrozenClassifier
    ) -> dict[str, Baseline]:
        """What is seen of removed pixels of images (B, 3, H, W), by name."""
        return {name: BASELINE_IMAGES[name](images, classifier) for name in self.baseline_images}

    def prepared_baselines(
        self, batch: Batch, classifier: FrozenClassifier
    ) -> dict[str, "PreparedBaseline"]:
        """Prepare the baseline images of a batch with the classifier's decision, by name."""
        images = batch["image"]
        return {
            name: PreparedBaseline(made, curve_ends(classifier, images, made, batch["decision"]))
            for name, made in self.make_baseline_images(images, classifier).items()
        }

    def remove(self, classifier: FrozenClassifier, images: Tensor, kept: Tensor) -> Tensor:
        """Views of images (n, 3, H, W) over the first baseline, kept pixels (n, H, W) bool."""
        first = BASELINE_IMAGES[self.baseline_images[0]]
        return masked_view(images, kept, first(images, classifier))

    def with_unseen(self, seen: Collection[str]) -> "Protocol":
        """Add in-painting where training used all baseline images, so that one is unseen."""
        if not set(self.baseline_images) <= set(seen):
            return self
        return replace(self, baseline_images=[*self.baseline_images, IMPUTATIONS[0]])

    def limit(self, methods: Methods, name: str, number: int) -> int:
        """Number of images, of a total number, that a method is scored on: the explainer on all."""
        if self.slow_images is None or name == EXPLAINER or not methods.is_slow(name):
            return number
        return min(self.slow_images, number)

    def left_out(self, methods: Methods, limits: Mapping[str, int]) -> tuple[str, ...]:
        """What the limits of slow methods leave out, one sentence each."""
        most = max(limits.values(), default=0)
        return tuple(
            f"{title(name)}: takes "
            + (f"{methods.passes[name]:,.0f}" if limit else f"more than {methods.slow_passes}")
            + " passes of the classifier an image; "
            + (f"scored on {limit} images, " if limit else "scored with ")
            + f"slow_images={'N' if not limit else 'null scores it on all'}."
            for name, limit in limits.items()
            if limit < most
        )


@dataclass(frozen=True)
class PreparedBaseline:
    """Baseline images of a batch, the same for the maps of all methods.

    Attributes:
        baseline: Baseline images, (B, 3, H, W), or an imputation.
        ends: Ends of all curves over it, (B,) each.
    """

    baseline: Baseline
    ends: CurveEnds

    def first(self, number: int) -> "PreparedBaseline":
        """The same for the first images."""
        of = self.baseline
        return PreparedBaseline(
            of[:number] if isinstance(of, Tensor) else of,
            CurveEnds(self.ends.none[:number], self.ends.whole[:number]),
        )


class _Gathered:
    """Scores of one method, batch by batch, and its maps of the first images."""

    def __init__(self) -> None:
        self.values: dict[str, list[Tensor]] = {}
        self.curves: dict[str, list[Tensor]] = {}
        self.maps: list[Tensor] = []
        self.seconds = float("inf")  # per image, of the fastest batch; the first batch may warm up
        self.images = 0

    def add(self, part: Part | None) -> None:
        """Add what :func:`_score_method` returned for a batch; None if another partition has it."""
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
    """Explain and score all images by all methods; the classifier decides once for all of them.

    Args:
        images: Images to explain, with true masks where they are known.
        methods: Methods after they were warmed up, since every call is timed.
        classifier: Classifier to explain.
        protocol: How maps are scored.
        progress: What an earlier evaluation of the same settings has done already.
        keep: Number of images whose maps are returned.
        seed: Seed of the bootstrap of the scores.

    Returns:
        The scores, and of each method the maps of the first images, (keep, H, W), on the CPU; of
        a partition, those that it has measured.

    Raises:
        ValueError: If a true mask is empty, or maps are not finite and (B, H, W).
    """
    limits = {name: protocol.limit(methods, name, len(images)) for name in methods.by_name}
    gathered = {name: _Gathered() for name, limit in limits.items() if limit}
    turns = methods.costly_first()
    seen, groups = 0, []
    with tqdm(total=sum(limits.values()), desc="Evaluating", unit="map") as bar:
        for number, undecided in enumerate(images):
            _check_masks(undecided, seen)
            batch = with_decision(undecided, classifier)
            prepared = cache(partial(protocol.prepared_baselines, batch, classifier))
            for name, part, span in _parts(batch, limits, seen):
                bar.set_postfix_str(name)
                scored = partial(_score_method, part, name, methods, classifier, prepared, protocol)
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


def _joined(groups: Sequence[Tensor | None]) -> Tensor | None:
    """Groups of all images, on the CPU; None where one batch has none."""
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


@torch.no_grad()
def with_decision(batch: Batch, classifier: FrozenClassifier) -> Batch:
    """Add the classifier's decision on each image of a batch, so that it is computed only once."""
    return {**batch, "decision": classifier.decide(classifier(batch["image"]))}


def _parts(
    batch: Batch, limits: Mapping[str, int], seen: int
) -> Iterator[tuple[str, Batch, slice]]:
    """Each method, the images of a batch that it is scored on, if any, and their numbers."""
    for name, limit in limits.items():
        if limit > seen:
            part = rows(batch, slice(limit - seen))
            yield name, part, slice(seen, seen + len(part["image"]))


def _score_method(
    batch: Batch,
    name: str,
    methods: Methods,
    classifier: FrozenClassifier,
    prepared: Callable[[], Mapping[str, PreparedBaseline]],
    protocol: Protocol,
    *,
    keep: int,
) -> Part:
    """Explain and score a batch by one method: values, curves, first maps, seconds, on the CPU."""
    explain = partial(explain_batch, methods.by_name[name], batch, classifier)
    try:
        maps, seconds = timed(explain, batch["image"].device)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    own = {baseline: found.first(len(maps)) for baseline, found in prepared().items()}
    values, curves = score(batch, maps, classifier, own, protocol)
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
    classifier: FrozenClassifier,
    baselines: Mapping[str, PreparedBaseline],
    protocol: Protocol,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Score the maps (B, H, W) of a batch.

    Args:
        batch: Images with the classifier's decision, and with true masks where they are known.
        maps: Saliency maps, (B, H, W).
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
    baseline = baselines[first].baseline
    agreement = kept_agreement(
        classifier, images, maps, baseline, fractions=KEPT_FRACTIONS, target=decision
    )
    for fraction, agrees in zip(KEPT_FRACTIONS, agreement.float().unbind(1), strict=True):
        values[f"agreement_{round(100 * fraction)}"] = agrees
    if "mask" in batch:
        values |= _localization(maps, batch["mask"], protocol.tolerance)
    values["sparsity"] = gini_index(maps)
    return values, curves


def _localization(maps: Tensor, mask: Tensor, tolerance: float) -> dict[str, Tensor]:
    """Scores of maps (B, H, W) against true masks (B, H, W), each (B,)."""
    return {
        "pointing_game": pointing_game(maps, mask, tolerance).float(),
        "iou": mask_iou(maps, mask),
        "relevance_mass": relevance_mass(maps, mask),
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
    """Join the batches of each method and metric; returns metric, then method, to all images."""
    values: dict[str, dict[str, Tensor]] = {}
    for method, by_metric in by_method.items():
        for metric, batches in by_metric.items():
            values.setdefault(metric, {})[method] = torch.cat(batches)
    return values
