"""Explanations of each object of an image in turn, scored by whether they lie on the object."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier, class_target
from saliency_vae.data import Batch
from saliency_vae.data.batch import rows
from saliency_vae.evaluation.explaining import attribution_of, explain_batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.progress import Part, Progress
from saliency_vae.evaluation.wording import title
from saliency_vae.runtime.text import one_line

# Function of maps (B, H, W), their positive attribution (B, H, W), the masks of all objects
# (B, n, H, W) and the index of the target object that returns metric to score, (B,).
Score = Callable[[Tensor, Tensor, Tensor, int], dict[str, Tensor]]


@dataclass(frozen=True)
class Game:
    """A pointing game: its names, and how it scores maps.

    Attributes:
        name: Directory of its saved parts during an evaluation.
        title: Display name.
        score: Function that scores a question.
    """

    name: str
    title: str
    score: Score


@dataclass(frozen=True)
class Answers:
    """Scores and maps of all methods in a pointing game.

    Attributes:
        values: Metric, then method, to the score of each question, (questions,), image by image.
        groups: Group of each question, (questions,) int64: questions about one object, even in
            different images, are not independent.
        maps: Method to its maps of the first images, one for each question, (keep, n, H, W).
        left_out: Methods asked about fewer images, or none, and why, one sentence each.
    """

    values: Mapping[str, Mapping[str, Tensor]]
    groups: Tensor
    maps: Mapping[str, Tensor]
    left_out: tuple[str, ...]


def ask_all(
    game: Game,
    methods: Mapping[str, Method],
    images: Images,
    classifier: FrozenClassifier,
    *,
    limits: Mapping[str, int] | None = None,
    keep: int = 0,
    progress: Progress | None = None,
) -> Answers:
    """Let methods explain each object of each image, and score the maps.

    Args:
        game: How the answers are scored.
        methods: Methods by name.
        images: Images with the masks and classes of n objects each.
        classifier: Classifier to explain.
        limits: Method to the number of images, from the first, that it is asked about; methods
            without a limit are asked about all images.
        keep: Number of images whose maps are returned.
        progress: Parts that an earlier evaluation with the same settings has done.
    """
    progress, limits = progress or Progress(), limits or {}
    parts: dict[str, list[Part]] = {name: [] for name in methods}
    groups: list[Tensor] = []
    left_out = _fewer(game, limits, len(images))
    seen = 0
    batches = tqdm(images, game.title, images.batches, unit="batch")
    for number, batch in enumerate(batches):
        for turn, name in enumerate(methods, start=number):
            size = min(len(batch["image"]), limits.get(name, len(images)) - seen)
            if size <= 0 or name not in parts:
                continue
            asked = partial(_ask, game.score, methods[name], rows(batch, slice(size)), classifier)
            kept, span = partial(asked, keep=max(0, keep - seen)), slice(seen, seen + size)
            try:
                if (found := progress.rows(f"{game.name}/{name}", span, kept, turn)) is not None:
                    parts[name].append(found)
            except ValueError as error:
                del parts[name]
                left_out.append(f"{game.title}, {title(name)}: {one_line(error)}")
        groups.append(_groups(batch, seen))
        seen += len(batch["image"])
    parts = {name: found for name, found in parts.items() if found}
    return _joined(parts, torch.cat(groups), tuple(left_out))


def _groups(batch: Batch, first: int) -> Tensor:
    """Group of each object, (B * n,); if unknown, its image's index, counted from ``first``."""
    if "object_groups" in batch:
        return batch["object_groups"].flatten().cpu()
    number, objects = batch["object_classes"].shape
    return torch.arange(first, first + number).repeat_interleave(objects)


def _fewer(game: Game, limits: Mapping[str, int], number: int) -> list[str]:
    """Which methods are asked about fewer images than others, or none, one sentence each."""
    lines = [
        f"{game.title}, {title(name)}: asked about {limit} of {number}, it takes many passes."
        for name, limit in limits.items()
        if 0 < limit < number
    ]
    none = ", ".join(title(name) for name, limit in limits.items() if not limit)
    return [*lines, f"{game.title}: {none} take too many passes."] if none else lines


def questions(batch: Batch, classifier: FrozenClassifier) -> Batch:
    """Repeat each image for each of its objects, with the object's class as the target.

    Args:
        batch: Images with the masks and classes of n objects each.
        classifier: Classifier that the classes belong to.

    Returns:
        The images, n times each in a row, with the target and the mask of one object each.
    """
    with torch.no_grad():
        logits = classifier(batch["image"][:1])
    classes = batch["object_classes"]
    return {
        "image": batch["image"].repeat_interleave(classes.shape[1], 0),
        "mask": batch["object_masks"].flatten(0, 1),
        "target": class_target(classes.flatten(), logits),
    }


def _ask(
    score: Score, method: Method, batch: Batch, classifier: FrozenClassifier, *, keep: int
) -> Part:
    """Explain and score each object of the images of a batch; all results are on the CPU.

    The questions about one image are asked together, because they share a forward pass.
    """
    number, objects = batch["object_classes"].shape
    size = objects * max(1, number // objects)  # about as many questions at once as images
    asked = questions(batch, classifier)
    parts = (rows(asked, slice(n, n + size)) for n in range(0, number * objects, size))
    maps = torch.cat([explain_batch(method, part, classifier) for part in parts])
    maps = maps.view(number, objects, *maps.shape[1:])
    scores: list[dict[str, Tensor]] = []
    for place, saliency in enumerate(maps.unbind(1)):
        attribution = attribution_of(method, saliency)
        scores.append(score(saliency, attribution, batch["object_masks"], place))
    values = {
        metric: torch.stack([of_place[metric].float() for of_place in scores], dim=1).cpu()
        for metric in scores[0]
    }
    return {"values": values, "maps": maps[:keep].cpu()}


def _joined(parts: Mapping[str, list[Part]], groups: Tensor, left_out: tuple[str, ...]) -> Answers:
    """Join the batches of each method."""
    values: dict[str, dict[str, Tensor]] = {}
    for name, found in parts.items():
        for metric in found[0]["values"]:
            of_all = torch.cat([part["values"][metric] for part in found])
            values.setdefault(metric, {})[name] = of_all.flatten()
    maps = {name: torch.cat([part["maps"] for part in found]) for name, found in parts.items()}
    return Answers(values, groups, maps, left_out)
