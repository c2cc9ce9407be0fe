"""Grids: of confident images of four classes, each used equally often; chance is a quarter."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from saliency_vae.baselines import CentrePrior, EdgeMagnitude, Method, Oracle, RandomMap
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch, Preprocessing
from saliency_vae.data.image_folder import ImageFolderData
from saliency_vae.evaluation.images import Images, evaluation_images
from saliency_vae.evaluation.pointing.grids import GRID_POINTING, Grids, build_grids
from saliency_vae.evaluation.pointing.questions import ask_all
from tests.evaluation.pointing.colours import (
    COLOURS,
    CPU,
    SIZE,
    Painted,
    colour_classifier,
    images,
    where,
    whole,
)

METRICS = ("grid_share", "grid_top", "grid_cell")


def dataset(grids: Images) -> Grids:
    assert isinstance(grids.dataset, Grids)
    return grids.dataset


def test_a_grid_shows_its_images_in_reading_order() -> None:
    found = whole(10)
    grids = dataset(build_grids(found, colour_classifier(), questions=12))
    assert len(grids) == 3
    for index in range(3):
        item = grids[index]
        assert item["image"].dtype == torch.uint8
        assert item["image"].shape == (3, 2 * SIZE, 2 * SIZE)
        for cell, (place, mask) in enumerate(
            zip(grids.cells[index].tolist(), item["object_masks"], strict=True)
        ):
            top, left = SIZE * (cell // 2), SIZE * (cell % 2)
            shown = item["image"][:, top : top + SIZE, left : left + SIZE]
            assert torch.equal(shown, found.dataset[place]["image"])
            assert mask.sum() == SIZE**2
            assert mask[top : top + SIZE, left : left + SIZE].all()
            assert int(item["object_classes"][cell]) == place % 5


@pytest.mark.parametrize(("questions", "number"), [(200, 50), (8, 2), (5, 2), (1, 1)])
def test_four_questions_a_grid(questions: int, number: int) -> None:
    assert len(build_grids(whole(10), colour_classifier(), questions=questions)) == number


def test_classes_differ_and_images_are_used_equally_often() -> None:
    grids = dataset(build_grids(whole(20), colour_classifier(), questions=100))
    assert all(len(set(row)) == 4 for row in grids.classes.tolist())
    uses = grids.cells.flatten().bincount(minlength=20)
    assert uses.sum() == 100
    assert uses.max() - uses.min() <= 2
    places = [set(grids.cells[:, cell].tolist()) for cell in range(4)]
    assert min(map(len, places)) > 10  # no image keeps to one place


def test_questions_about_an_image_or_its_group_belong_together() -> None:
    """Grids share images, and images may show one thing, so intervals go over groups."""
    asked = partial(ask_all, GRID_POINTING, {"where": where}, classifier=colour_classifier())
    grids = build_grids(whole(20), colour_classifier(), questions=100)
    answers = asked(images=grids)
    assert torch.equal(answers.groups, dataset(grids).cells.flatten())

    class Grouped(Painted):
        def __getitem__(self, index: int) -> Batch:
            return {**super().__getitem__(index), "group": torch.tensor(index % 5)}

    few = replace(whole(20), dataset=Grouped([(index % 5, SIZE, None) for index in range(20)]))
    grids = build_grids(few, colour_classifier(), questions=100)
    answers = asked(images=grids)
    assert torch.equal(answers.groups, dataset(grids).cells.flatten() % 5)


def test_fewer_grids_are_fewer_questions() -> None:
    """Even where these grids show all images."""
    grids = build_grids(whole(20), colour_classifier(), questions=100)
    few = ask_all(GRID_POINTING, {"where": where}, grids, colour_classifier(), limits={"where": 9})
    assert len(few.values["grid_cell"]["where"]) == 9 * 4


def test_the_seed_decides() -> None:
    first, again, other = (
        dataset(build_grids(whole(20), colour_classifier(), questions=40, seed=seed)).cells
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_unsure_images_are_left_out() -> None:
    """A single column of a colour gets a probability of .35."""
    painted = [(index % 5, SIZE if index < 12 else 1, None) for index in range(24)]
    grids = build_grids(images(painted), colour_classifier(), questions=48)
    assert set(dataset(grids).cells.flatten().tolist()) == set(range(12))
    assert "12 of the paintings, of 5 classes" in grids.name


def test_too_few_confident_images_are_joined_by_the_most_confident() -> None:
    """The more columns a colour has, the surer is the classifier."""
    painted = [(0, SIZE, None), (1, SIZE // 2, None), (2, 1, None), (3, 1, None), (4, 0, None)]
    grids = build_grids(images(painted), colour_classifier(), questions=4)
    assert set(dataset(grids).cells.flatten().tolist()) == {0, 1, 2, 3}
    assert "a probability of at least 0.3" in grids.name


def test_fewer_than_four_classes_are_one_line() -> None:
    three = images([(index % 3, SIZE, None) for index in range(9)])
    message = r"images of at least 4 classes .* Found 9 images of 3\."
    with pytest.raises(ValueError, match=message):
        build_grids(three, colour_classifier())


def test_of_independent_labels_images_show_one_alone() -> None:
    """Half an image is enough for a label, so a painting of two colours has two labels."""
    painted: list[tuple[int, int, int | None]] = [(c, SIZE, None) for c in range(5)]
    painted += [(c, SIZE // 2, (c + 1) % 5) for c in range(5)]
    grids = build_grids(images(painted), colour_classifier("sigmoid"), questions=20)
    assert set(dataset(grids).cells.flatten().tolist()) == set(range(5))


def test_a_classifier_of_one_size_gets_halved_images() -> None:
    found = whole(10)
    grids = build_grids(found, colour_classifier(size=SIZE), questions=12)
    assert "2x2 halved images" in grids.name
    assert grids.batch_size == found.batch_size
    item = dataset(grids)[0]
    assert item["image"].shape == (3, SIZE, SIZE)
    for cell, mask in enumerate(item["object_masks"]):
        middle = item["image"][:, mask].view(3, SIZE // 2, SIZE // 2)[:, 2, 2]
        colour = COLOURS[int(item["object_classes"][cell])]
        assert torch.equal(middle.float() / 255, colour)
    answers = ask_all(GRID_POINTING, {"where": where}, grids, colour_classifier(size=SIZE))
    assert answers.values["grid_cell"]["where"].tolist() == [1] * 12


def test_halved_images_are_judged_in_their_own_size() -> None:
    """Columns of a colour and of its opposite in turn become grey once they are halved."""

    class Striped(Painted):
        def __getitem__(self, index: int) -> Batch:
            image = super().__getitem__(index)["image"]
            if index >= 5:
                image[:, :, ::2] = 255 - image[:, :, ::2]
            return {"image": image}

    striped = Striped([(index % 5, SIZE, None) for index in range(10)])
    found = Images(striped, name="stripes", batch_size=4, num_workers=0, device=CPU)
    network = colour_classifier(size=SIZE)
    grids = build_grids(found, network, questions=20)
    assert set(dataset(grids).cells.flatten().tolist()) == set(range(5))


def test_full_memory_is_no_reason_to_halve() -> None:
    class Full(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        build_grids(whole(8), FrozenClassifier(Full(), name="full"))


def test_an_image_folder_will_do(tmp_path: Path) -> None:
    for index in range(20):
        pixels = np.tile((255 * COLOURS[index % 5]).numpy().astype(np.uint8), (SIZE, SIZE, 1))
        pixels[0, 0] = index
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    data = ImageFolderData(str(tmp_path), validation_fraction=0.5)
    files, _ = evaluation_images(data, Preprocessing(), None)
    found = Images(files, name="files", batch_size=4, num_workers=0, device=CPU)
    grids = build_grids(found, colour_classifier(), questions=20)
    answers = ask_all(GRID_POINTING, {"where": where}, grids, colour_classifier())
    assert answers.values["grid_cell"]["where"].tolist() == [1] * 20


class Shifted:
    """The opposite of the true explanation, plus a number; zero means nothing.

    Args:
        by: Number that is added.
    """

    zero_is_neutral = True

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return self.by - where(batch, classifier)


def test_the_truth_wins_and_controls_are_at_chance() -> None:
    grids = build_grids(whole(20), colour_classifier(), questions=32)
    methods: dict[str, Method] = {
        "where": where,
        "elsewhere": Shifted(1),
        "nowhere": Shifted(0),
        "oracle": Oracle(),
        "random": RandomMap(),
        "centre": CentrePrior(),
        "edges": EdgeMagnitude(),
    }
    answers = ask_all(GRID_POINTING, methods, grids, colour_classifier())
    assert answers.left_out == ()
    for metric in METRICS:
        values = answers.values[metric]
        assert all(found.shape == (32,) for found in values.values())  # one for each question
        for control in ("random", "centre", "edges"):
            assert float(values[control].mean()) == pytest.approx(0.25, abs=0.05)
        assert (values["where"] > 0.99).all()
        assert (values["oracle"] > 0.9).all()
        assert (values["elsewhere"] < 0.01).all()
    for metric in ("grid_share", "grid_cell"):  # a map without anything positive is at chance
        assert torch.equal(answers.values[metric]["nowhere"], torch.full((32,), 0.25))


def test_scores_equal_a_loop_over_questions() -> None:
    grids = build_grids(whole(20), colour_classifier(), questions=28)
    cells = dataset(grids)

    def noise(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Noise that depends on the image and on the class asked about."""
        seeds = (batch["image"].sum((1, 2, 3)) * 9).long() * 10 + batch["target"].argmax(1)
        shape = batch["image"].shape[-2:]
        return torch.stack(
            [torch.rand(shape, generator=torch.Generator().manual_seed(s)) for s in seeds.tolist()]
        )

    answers = ask_all(GRID_POINTING, {"noise": noise}, grids, colour_classifier())
    found: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for index in range(7):
        image = cells[index]["image"][None].float() / 255
        for cell in range(4):
            target = torch.zeros(1, 5)
            target[0, cells.classes[index, cell]] = 1
            values = noise({"image": image, "target": target}, colour_classifier())[0]
            positive = (values - values.median()).clamp_min(0)
            quarters = [positive[mask] for mask in cells[index]["object_masks"]]
            amounts = [float(quarter.sum()) for quarter in quarters]
            top = values.flatten().argsort(descending=True)[: round(0.1 * 4 * SIZE**2)].tolist()
            inside = [
                place
                for place in top
                if (place // (2 * SIZE)) // SIZE * 2 + (place % (2 * SIZE)) // SIZE == cell
            ]
            scores = (
                amounts[cell] / sum(amounts),
                len(inside) / len(top),
                float(amounts[cell] == max(amounts)),
            )
            for metric, score in zip(METRICS, scores, strict=True):
                found[metric].append(score)
    for metric, expected in found.items():
        assert answers.values[metric]["noise"].tolist() == pytest.approx(expected, abs=1e-5)
