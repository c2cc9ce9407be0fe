"""The grid pointing game (Boehle et al. 2021; Rao et al. 2022).

Four images of different classes form a 2x2 grid. A method explains each of the four classes in
turn, and its map should lie on the cell that shows the class.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from saliency_vae.classifiers import FrozenClassifier, class_target
from saliency_vae.data import Batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.pointing.questions import Game
from saliency_vae.metrics import has_most, region_shares, top_shares
from saliency_vae.runtime.memory import is_out_of_memory

CELLS = 4
CONFIDENT = 0.5  # least probability of the class of a cell's image


def score_cells(
    saliency: Tensor, attribution: Tensor, cells: Tensor, asked: int
) -> dict[str, Tensor]:
    """Score maps whose target is the class of one cell.

    Args:
        saliency: Maps, (B, H, W).
        attribution: Their positive attribution, (B, H, W).
        cells: Masks of the cells, (B, 4, H, W) bool.
        asked: Index of the target cell.

    Returns:
        Share of the attribution in the cell, share of the 10 % most salient pixels there, and
        whether no other cell has more attribution, each (B,).
    """
    shares = region_shares(attribution, cells)
    return {
        "grid_share": shares[:, asked],
        "grid_top": top_shares(saliency, cells)[:, asked],
        "grid_cell": has_most(shares)[:, asked],
    }


# Scores grid_share, grid_top and grid_cell, for each of which chance is 1/4.
GRID_POINTING = Game("grid_pointing", "Grid pointing game", score_cells)


def build_grids(
    images: Images, classifier: FrozenClassifier, *, questions: int = 200, seed: int = 0
) -> Images:
    """Build grids from confidently classified images, each used about equally often.

    A grid is twice as high and wide as an image. A classifier that cannot take that size gets grids
    of halved images.

    Args:
        images: Images of any kind, all of one size; no masks are needed.
        classifier: Classifier whose decisions define the classes.
        questions: Number of questions, four per grid.
        seed: Seed of the choice.

    Returns:
        The grids; their name describes them.

    Raises:
        ValueError: If the images are of fewer than four classes.
    """
    number = -(-questions // CELLS)
    halved = not _takes(classifier, _tiled(images.first(1).as_batch()["image"]))
    confidence, classes = _decisions(images, classifier, halved=halved)
    least = max(CELLS, min(number, len(confidence)))  # so that none is used very often
    confident = int((confidence >= CONFIDENT).sum())
    pool = confidence.argsort(descending=True, stable=True)[: max(confident, least)]
    distinct = len(set(classes[pool].tolist()))
    if distinct < CELLS:
        raise ValueError(
            f"Expected confident images of at least {CELLS} classes for the grid pointing game. "
            f"Found {len(pool)} images of {distinct}."
        )
    cells = pool[_draw(classes[pool], number, seed)]
    used = sorted(set(cells.flatten().tolist()))
    uses = cells.flatten().bincount()[used]
    name = (
        f"{number} grids of 2x2 {'halved ' if halved else ''}images: {len(used)} of the "
        f"{images.name}, of {len(set(classes[used].tolist()))} classes, with a probability of at "
        f"least {confidence[used].min():.2f}, in {int(uses.min())} to {int(uses.max())} grids each"
    )
    dataset = Grids(images.dataset, cells, classes[cells], halved=halved)
    batch_size = max(1, images.batch_size // (1 if halved else CELLS))  # as many pixels per batch
    return replace(images, dataset=dataset, name=name, batch_size=batch_size, left_out=())


class Grids(Dataset[Batch]):
    """Data set of 2x2 grids of images. Each cell is an object, in the group of its image.

    Args:
        images: Images of type uint8.
        cells: Indices of the images of each grid, in reading order, (N, 4) int64.
        classes: Their classes, (N, 4) int64.
        halved: Whether a grid has the size of an image, not twice its height and width.
    """

    def __init__(
        self, images: Dataset[Batch], cells: Tensor, classes: Tensor, *, halved: bool
    ) -> None:
        self.images = images
        self.cells = cells
        self.classes = classes
        self.halved = halved

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: int) -> Batch:
        places = self.cells[index].tolist()
        shown = [self.images[place] for place in places]
        pictures = torch.stack([cell["image"] for cell in shown])
        if self.halved:
            pictures = _halved(pictures)
        top, bottom = (torch.cat([*row], dim=-1) for row in (pictures[:2], pictures[2:]))
        height, width = pictures.shape[-2:]
        place = torch.arange(CELLS).view(2, 2)
        which = place.repeat_interleave(height, 0).repeat_interleave(width, 1)
        return {
            "image": torch.cat([top, bottom], dim=-2),
            "index": torch.tensor(index),
            "object_masks": which == torch.arange(CELLS)[:, None, None],
            "object_classes": self.classes[index],
            "object_groups": torch.stack(
                [
                    cell.get("group", torch.tensor(place))
                    for cell, place in zip(shown, places, strict=True)
                ]
            ),
        }


def _decisions(
    images: Images, classifier: FrozenClassifier, *, halved: bool
) -> tuple[Tensor, Tensor]:
    """Probability of each image's most probable class, with no other label present, and the class.

    If ``halved``, the classifier sees each halved image four times in a grid.
    """
    confidence, classes = [], []
    for batch in images:
        seen = _tiled(_halved(batch["image"])) if halved else batch["image"]
        with torch.no_grad():
            logits = classifier(seen)
        most = logits.argmax(1)
        alone = class_target(most, logits)
        if classifier.output == "sigmoid":
            alone = 2 * alone - 1  # the other labels are absent
        confidence.append(classifier.probability(logits, alone).cpu())
        classes.append(most.cpu())
    return torch.cat(confidence), torch.cat(classes)


def _draw(classes: Tensor, number: int, seed: int) -> Tensor:
    """Draw grids (number, 4) of images of four classes, preferring the least used images."""
    generator = torch.Generator().manual_seed(seed)
    uses = torch.zeros(len(classes))
    grids = []
    for _ in range(number):
        order = uses + torch.rand(len(classes), generator=generator)
        chosen = torch.zeros(CELLS, dtype=torch.long)
        for cell in torch.randperm(CELLS, generator=generator).tolist():
            chosen[cell] = order.argmin()
            order[classes == classes[chosen[cell]]] = torch.inf
        uses[chosen] += 1
        grids.append(chosen)
    return torch.stack(grids)


def _halved(images: Tensor) -> Tensor:
    """Halve height and width of images (B, 3, H, W), antialiased."""
    size = [side // 2 for side in images.shape[-2:]]
    halved: Tensor = F.resize(images, size, antialias=True)
    return halved


def _tiled(images: Tensor) -> Tensor:
    """Repeat each image four times in a grid, (B, 3, 2H, 2W)."""
    return images.repeat(1, 1, 2, 2)


@torch.no_grad()
def _takes(classifier: FrozenClassifier, images: Tensor) -> bool:
    """Whether a classifier can classify images of this size."""
    try:
        classifier(images)
    except Exception as error:  # each network has its own way to refuse a size
        if is_out_of_memory(error):
            raise
        return False
    return True
