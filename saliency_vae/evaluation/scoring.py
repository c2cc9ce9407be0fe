"""Measuring methods: every method on the same images, with the same classifier and baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.results import Results
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
from saliency_vae.perturbations import Blur, Constant, Mean, blurred

FRACTIONS = (0.05, 0.1, 0.2)


def light_blur(images: Tensor) -> Tensor:
    """Blur images (B, 3, H, W) as RISE does for insertion: by 5 pixels where a side has 224."""
    result: Tensor = Blur(5 / 224 * min(images.shape[-2:]))(images)
    return result


# What removes information, by name. It does not depend on the explainer.
REMOVALS: dict[str, Callable[[Tensor, FrozenClassifier], Tensor]] = {
    "blur": lambda images, classifier: blurred(images),
    "mean": lambda images, classifier: Mean()(images),
    "zero": lambda images, classifier: Constant()(images),
    "light_blur": lambda images, classifier: light_blur(images),
    "classifier_mean": lambda images, classifier: classifier.mean.expand_as(images),  # its 0
}


def other_removals(names: Sequence[str]) -> list[str]:
    """Names of what could remove information too."""
    return [name for name in REMOVALS if name not in names]


@dataclass(frozen=True)
class Protocol:
    """How methods are scored.

    Attributes:
        removals: Names of what removes information; the first is that of the kept views too.
        steps: Of insertion and deletion.
        tolerance: Of the pointing game, pixels.

    Raises:
        ValueError: If a value is out of range.
    """

    removals: Sequence[str] = ("blur",)
    steps: int = 24
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not self.removals or not set(self.removals) <= REMOVALS.keys():
            raise ValueError(
                f"Expected removal among {', '.join(REMOVALS)}. "
                f"Found {', '.join(self.removals) or 'none'}."
            )
        if self.steps < 1 or self.tolerance < 0:
            raise ValueError(
                f"Expected steps >= 1 and tolerance >= 0 pixels. "
                f"Found {self.steps} and {self.tolerance}."
            )

    def baselines(self, images: Tensor, classifier: FrozenClassifier) -> dict[str, Tensor]:
        """Images (B, 3, H, W) without their information, by the name of what removed it."""
        return {name: REMOVALS[name](images, classifier) for name in self.removals}


@dataclass
class _Measurement:
    """Scores of one method, gathered batch by batch; maps of the first images alone."""

    scores: dict[str, list[Tensor]] = field(default_factory=dict)
    curves: dict[str, list[Tensor]] = field(default_factory=dict)
    maps: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0


def measure(
    images: Images,
    methods: Mapping[str, Method],
    classifier: FrozenClassifier,
    protocol: Protocol,
    results: Results,
    *,
    keep: int,
) -> dict[str, Tensor]:
    """Explain and score all images by all methods, with a progress bar.

    Args:
        images: With true masks where they are known.
        methods: By name, warm already: every call is timed.
        classifier: To explain.
        protocol: Of the scores.
        results: Is told values, curves and seconds.
        keep: Number of images whose maps are returned.

    Returns:
        Maps of each method for the first images, (keep, H, W), on the CPU.

    Raises:
        ValueError: If a true mask is empty, or a method gives other than finite maps (B, H, W).
    """
    measured = {name: _Measurement() for name in methods}
    seen = 0
    with tqdm(total=len(images) * len(methods), desc="Evaluating", unit="map") as bar:
        for batch in images:
            _check_masks(batch, seen)
            baselines = protocol.baselines(batch["image"], classifier)
            for name, method in methods.items():
                bar.set_postfix_str(name)
                maps, seconds = _explain(batch, name, method, classifier)
                scores, curves = score(batch, maps, classifier, baselines, protocol)
                measured[name].seconds += seconds
                _gather(scores, measured[name].scores)
                _gather(curves, measured[name].curves)
                measured[name].maps.append(maps[: max(0, keep - seen)].cpu())
                bar.update(len(maps))
            seen += len(batch["image"])
    for name, measurement in measured.items():
        for metric, values in measurement.scores.items():
            results.values.setdefault(metric, {})[name] = torch.cat(values)
        for kind, values in measurement.curves.items():
            results.curves.setdefault(kind, {})[name] = torch.cat(values)
        results.seconds[name] = measurement.seconds / seen
    return {name: torch.cat(measurement.maps) for name, measurement in measured.items()}


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
    for name, baseline in baselines.items():
        suffix = "" if name == protocol.removals[0] else f"_{name}"
        found = insertion_deletion(classifier, images, maps, baseline, step=step)
        curves[f"insertion{suffix}"], curves[f"deletion{suffix}"] = found.insertion, found.deletion
        scores[f"insertion{suffix}"] = found.insertion_auc
        scores[f"deletion{suffix}"] = found.deletion_auc
    baseline = baselines[protocol.removals[0]]
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
    images = batch["image"]
    maps, seconds = timed(lambda: method(batch, classifier).detach(), images.device)
    expected = (len(images), *images.shape[-2:])
    if tuple(maps.shape) != expected:
        raise ValueError(f"Expected {name} to give {expected}. Found {tuple(maps.shape)}.")
    if not maps.isfinite().all():
        raise ValueError(f"Expected {name} to give finite maps. Found NaN or infinity.")
    return maps, seconds


def _gather(found: Mapping[str, Tensor], gathered: dict[str, list[Tensor]]) -> None:
    for name, values in found.items():
        gathered.setdefault(name, []).append(values.cpu())
