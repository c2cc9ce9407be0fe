"""Measuring methods: every method on the same images, with the same classifier and baseline."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.datamodule import Batch
from saliency_vae.metrics.agreement import kept_agreement
from saliency_vae.metrics.cost import peak_memory, timed
from saliency_vae.metrics.insertion_deletion import (
    area_under_curve,
    deletion_curve,
    insertion_curve,
)
from saliency_vae.metrics.localization import (
    mask_iou,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from saliency_vae.metrics.sparsity import gini_index
from saliency_vae.results import Results

FRACTIONS = (0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Protocol:
    """How methods are scored.

    Attributes:
        baselines: Name to what removes information; the first is that of the kept views.
        steps: Of insertion and deletion.
        tolerance: Of the pointing game, pixels.
    """

    baselines: Mapping[str, nn.Module]
    steps: int = 24
    tolerance: float = 0.0


@dataclass
class Measurement:
    """Scores of one method, gathered batch by batch.

    Attributes:
        scores: Metric to its values of each batch, (B,).
        curves: Kind of curve to those of each batch, (B, points).
        maps: Saliency of each batch, (B, H, W).
        seconds: In all.
        memory: Peak bytes of one image.
    """

    scores: dict[str, list[Tensor]] = field(default_factory=dict)
    curves: dict[str, list[Tensor]] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0

    def add(self, scores: Mapping[str, Tensor], curves: Mapping[str, Tensor]) -> None:
        """Keep the scores of a batch."""
        for name, values in scores.items():
            self.scores.setdefault(name, []).append(values.cpu())
        for name, curve in curves.items():
            self.curves.setdefault(name, []).append(curve.cpu())


def measure(
    batches: Iterable[Batch],
    methods: Mapping[str, Method],
    classifier: FrozenClassifier,
    protocol: Protocol,
    *,
    total: int,
) -> tuple[Results, dict[str, Tensor]]:
    """Explain and score all batches by all methods, with a progress bar.

    Args:
        batches: Images in [0, 1], with true masks where they are known.
        methods: By name.
        classifier: To explain.
        protocol: Of the scores.
        total: Number of images, for the progress bar.

    Returns:
        Results, and the maps of each method, (N, H, W).
    """
    measured = {name: Measurement() for name in methods}
    images = 0
    with tqdm(total=total * len(methods), desc="Evaluating", unit="map") as bar:
        for batch in batches:
            baselines = {name: make(batch["image"]) for name, make in protocol.baselines.items()}
            for name, method in methods.items():
                bar.set_postfix_str(name)
                measurement = measured[name]
                if not measurement.maps:
                    one = first_of(batch)
                    # The first call also warms up: it is not timed.
                    measurement.memory = peak_memory(lambda: method(one, classifier))  # noqa: B023
                maps, seconds = timed(lambda: method(batch, classifier))  # noqa: B023
                measurement.seconds += seconds
                measurement.maps.append(maps.cpu())
                measurement.add(*score(batch, maps, classifier, baselines, protocol))
                bar.update(len(maps))
            images += len(batch["image"])
    return _results(measured, images), {n: torch.cat(m.maps) for n, m in measured.items()}


def score(
    batch: Batch,
    maps: Tensor,
    classifier: FrozenClassifier,
    baselines: Mapping[str, Tensor],
    protocol: Protocol,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Score the maps (B, H, W) of a batch: values (B,) and curves (B, points) by name."""
    images = batch["image"]
    step = -(-maps[0].numel() // protocol.steps)  # rounded up
    scores: dict[str, Tensor] = {}
    curves: dict[str, Tensor] = {}
    for index, (name, baseline) in enumerate(baselines.items()):
        suffix = "" if index == 0 else f"_{name}"
        for kind, curve in (("insertion", insertion_curve), ("deletion", deletion_curve)):
            points = curve(classifier, images, maps, baseline, step=step)
            curves[f"{kind}{suffix}"] = points
            scores[f"{kind}{suffix}"] = area_under_curve(points)
    baseline = next(iter(baselines.values()))
    agreement = kept_agreement(classifier, images, maps, baseline, fractions=FRACTIONS)
    for fraction, agrees in zip(FRACTIONS, agreement.float().unbind(1), strict=True):
        scores[f"agreement_{round(100 * fraction)}"] = agrees
    if "mask" in batch:
        mask = batch["mask"]
        scores["pointing_game"] = pointing_game(maps, mask, protocol.tolerance).float()
        scores["iou"] = mask_iou(maps, mask)
        scores["relevance_mass"] = relevance_mass(maps, mask)
        scores["relevance_rank"] = relevance_rank(maps, mask)
    scores["sparsity"] = gini_index(maps)
    return scores, curves


def first_of(batch: Batch, number: int = 1) -> Batch:
    """First images of a batch."""
    first: Batch = {"image": batch["image"][:number]}
    if "mask" in batch:
        first["mask"] = batch["mask"][:number]
    return first


def _results(measured: Mapping[str, Measurement], images: int) -> Results:
    results = Results()
    for name, measurement in measured.items():
        for metric, values in measurement.scores.items():
            results.values.setdefault(metric, {})[name] = torch.cat(values)
        for kind, curves in measurement.curves.items():
            results.curves.setdefault(kind, {})[name] = torch.cat(curves)
        results.seconds[name] = measurement.seconds / images
        results.memory[name] = float(measurement.memory)
    return results
