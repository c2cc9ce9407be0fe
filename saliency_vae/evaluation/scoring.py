"""Scoring: every method explains the same images, and its maps are scored in the same way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.scores import Scores
from saliency_vae.metrics import (
    gini_index,
    insertion_deletion,
    kept_agreement,
    mask_iou,
    pointing_game,
    relevance_mass,
    relevance_rank,
    timed,
)

FRACTIONS = (0.05, 0.1, 0.2)  # shares of the pixels kept for the agreement


@dataclass(frozen=True)
class Protocol:
    """How the maps of methods are scored.

    Attributes:
        baseline_images: Names of the baseline images for insertion and deletion; the first one is
            also that of the kept views.
        steps: Number of steps of insertion and deletion.
        tolerance: Distance from the true object that the pointing game still counts as a hit,
            pixels.

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
    ) -> dict[str, Tensor]:
        """Baseline images of images (B, 3, H, W) by name, each of the same shape."""
        return {name: BASELINE_IMAGES[name](images, classifier) for name in self.baseline_images}


@dataclass
class _Gathered:
    """Scores of one method, batch by batch, and its maps of the first images."""

    values: dict[str, list[Tensor]] = field(default_factory=dict)
    curves: dict[str, list[Tensor]] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, values: Mapping[str, Tensor], curves: Mapping[str, Tensor]) -> None:
        """Add what :func:`score` returned for a batch."""
        for found, gathered in ((values, self.values), (curves, self.curves)):
            for name, of_batch in found.items():
                gathered.setdefault(name, []).append(of_batch.cpu())


def measure(
    images: Images,
    methods: Methods,
    classifier: FrozenClassifier,
    protocol: Protocol,
    *,
    keep: int,
    seed: int = 0,
) -> tuple[Scores, dict[str, Tensor]]:
    """Explain and score all images by all methods, with a progress bar.

    Args:
        images: Images to explain, with true masks where they are known.
        methods: Methods after :func:`saliency_vae.evaluation.methods.warm_up`, since every call
            is timed.
        classifier: Classifier to explain.
        protocol: How maps are scored.
        keep: Number of images whose maps are returned.
        seed: Seed of the bootstrap of the scores.

    Returns:
        The scores, and of each method the maps of the first images, (keep, H, W), on the CPU.

    Raises:
        ValueError: If a true mask is empty, or a method returns anything but finite maps (B, H, W).
    """
    gathered = {name: _Gathered() for name in methods.by_name}
    seen = 0
    with tqdm(total=len(images) * len(gathered), desc="Evaluating", unit="map") as bar:
        for batch in images:
            _check_masks(batch, seen)
            baselines = protocol.make_baseline_images(batch["image"], classifier)
            for name, method in methods.by_name.items():
                bar.set_postfix_str(name)
                maps, seconds = _explain(batch, name, method, classifier)
                gathered[name].add(*score(batch, maps, classifier, baselines, protocol))
                gathered[name].maps.append(maps[: max(0, keep - seen)].cpu())
                gathered[name].seconds += seconds
                bar.update(len(maps))
            seen += len(batch["image"])
    scores = Scores(
        values=_by_metric({name: part.values for name, part in gathered.items()}),
        curves=_by_metric({name: part.curves for name, part in gathered.items()}),
        seconds={name: part.seconds / seen for name, part in gathered.items()},
        memory=methods.memory,
        roles=methods.roles,
        seed=seed,
    )
    return scores, {name: torch.cat(part.maps) for name, part in gathered.items()}


def score(
    batch: Batch,
    maps: Tensor,
    classifier: FrozenClassifier,
    baselines: Mapping[str, Tensor],
    protocol: Protocol,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Score the maps (B, H, W) of a batch.

    Args:
        batch: Images, with true masks where they are known.
        maps: Saliency maps, (B, H, W).
        classifier: Classifier to explain.
        baselines: Baseline images by name, each (B, 3, H, W).
        protocol: How maps are scored.

    Returns:
        Values (B,) by metric, and curves (B, points) by name.
    """
    images = batch["image"]
    step = -(-maps[0].numel() // protocol.steps)  # rounded up
    first = protocol.baseline_images[0]
    values: dict[str, Tensor] = {}
    curves: dict[str, Tensor] = {}
    for name, baseline in baselines.items():
        suffix = "" if name == first else f"_{name}"
        found = insertion_deletion(classifier, images, maps, baseline, step=step)
        curves[f"insertion{suffix}"], curves[f"deletion{suffix}"] = found.insertion, found.deletion
        values[f"insertion{suffix}"] = found.insertion_auc
        values[f"deletion{suffix}"] = found.deletion_auc
    agreement = kept_agreement(classifier, images, maps, baselines[first], fractions=FRACTIONS)
    for fraction, agrees in zip(FRACTIONS, agreement.float().unbind(1), strict=True):
        values[f"agreement_{round(100 * fraction)}"] = agrees
    if "mask" in batch:
        mask = batch["mask"]
        values["pointing_game"] = pointing_game(maps, mask, protocol.tolerance).float()
        values["iou"] = mask_iou(maps, mask)
        values["relevance_mass"] = relevance_mass(maps, mask)
        values["relevance_rank"] = relevance_rank(maps, mask)
    values["sparsity"] = gini_index(maps)
    return values, curves


def _check_masks(batch: Batch, before: int) -> None:
    if "mask" not in batch:
        return
    empty = (~batch["mask"].flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            "Expected true masks that mark a pixel. "
            f"Found an empty one, of image {before + empty[0]}."
        )


def _explain(
    batch: Batch, name: str, method: Method, classifier: FrozenClassifier
) -> tuple[Tensor, float]:
    """Maps of a batch, and the seconds that they took."""
    images = batch["image"]
    maps, seconds = timed(lambda: method(batch, classifier).detach(), images.device)
    expected = (len(images), *images.shape[-2:])
    if tuple(maps.shape) != expected:
        raise ValueError(f"Expected {name} to return {expected}. Found {tuple(maps.shape)}.")
    if not maps.isfinite().all():
        raise ValueError(f"Expected {name} to return finite maps. Found NaN or infinity.")
    return maps, seconds


def _by_metric(
    by_method: Mapping[str, Mapping[str, list[Tensor]]],
) -> dict[str, dict[str, Tensor]]:
    """Join the batches of each method and metric; returns metric, then method, to all images."""
    values: dict[str, dict[str, Tensor]] = {}
    for method, by_metric in by_method.items():
        for metric, batches in by_metric.items():
            values.setdefault(metric, {})[method] = torch.cat(batches)
    return values
