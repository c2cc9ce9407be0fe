"""Asking methods: each object's class in turn, what cannot be asked, limits, and going on."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.pointing.grids import GRID_POINTING, build_grids
from saliency_vae.evaluation.pointing.questions import ask_all, questions
from saliency_vae.evaluation.progress import Progress
from tests.evaluation.pointing.colours import colour_classifier, where, whole


@pytest.fixture(scope="module")
def grids() -> Images:
    return replace(build_grids(whole(20), colour_classifier(), questions=20), batch_size=2)


def test_each_object_is_asked_about_once(grids: Images) -> None:
    batch = next(iter(grids))
    asked = questions(batch, colour_classifier())
    assert set(asked) == {"image", "mask", "target"}  # no decision, which is another class
    assert asked["target"].shape == (8, 5)
    for place in range(4):
        assert torch.equal(asked["image"][place::4], batch["image"])
        assert torch.equal(asked["mask"][place::4], batch["object_masks"][:, place])
        target = asked["target"][place::4]
        assert torch.equal(target.argmax(1), batch["object_classes"][:, place])
        assert target.sum() == 2


class Recorded:
    """The true explanation; counts the images it was asked about."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.images = 0
        self.stop_after = stop_after

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        if self.images == self.stop_after:
            raise KeyboardInterrupt
        self.images += len(batch["image"])
        return where(batch, classifier)


def refusing(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    if "target" in batch:
        raise ValueError("Expected no target:\n  the decision alone. Found one.")
    return batch["image"].mean(1)


def broken(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return torch.full_like(batch["image"][:, 0], torch.nan)


def of_another_size(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return batch["image"][:, 0, :4, :4]


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (refusing, "Expected no target: the decision alone. Found one."),
        (broken, "Expected finite maps. Found NaN or infinity."),
        (of_another_size, "Expected maps (4, 16, 16). Found (4, 4, 4)."),
    ],
)
def test_a_method_that_cannot_answer_is_left_out(grids: Images, method: Method, line: str) -> None:
    methods: dict[str, Method] = {"some_method": method, "where": where}
    answers = ask_all(GRID_POINTING, methods, grids, colour_classifier())
    assert answers.left_out == (f"Grid pointing game, some method: {line}",)
    assert {name for by in answers.values.values() for name in by} == {"where"}


def test_without_an_able_method_there_are_no_values(grids: Images) -> None:
    answers = ask_all(GRID_POINTING, {"refusing": refusing}, grids, colour_classifier())
    assert answers.values == {}
    assert len(answers.left_out) == 1


@pytest.mark.parametrize(("limit", "asked"), [(0, 0), (1, 1), (3, 3), (9, 5)])
def test_a_slow_method_is_asked_about_the_first_images(
    grids: Images, limit: int, asked: int
) -> None:
    slow, fast = Recorded(), Recorded()
    methods: dict[str, Method] = {"slow": slow, "fast": fast}
    answers = ask_all(
        GRID_POINTING, methods, grids, colour_classifier(), limits={"slow": limit}, keep=2
    )
    assert (slow.images, fast.images) == (4 * asked, 20)
    values = answers.values["grid_share"]
    if asked:
        assert torch.equal(values["slow"], values["fast"][: 4 * asked])
        assert torch.equal(answers.maps["slow"], answers.maps["fast"][:asked])
    assert ("slow" in values) == bool(asked)


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_maps_of_the_first_images_are_returned(grids: Images, keep: int) -> None:
    answers = ask_all(GRID_POINTING, {"where": where}, grids, colour_classifier(), keep=keep)
    assert answers.maps["where"].shape == (keep, 4, 16, 16)
    masks = torch.cat([batch["object_masks"] for batch in grids])[:keep]
    assert ((answers.maps["where"] > 0) <= masks).all()


def test_batches_do_not_matter(grids: Images) -> None:
    def ask(size: int) -> Tensor:
        found = ask_all(
            GRID_POINTING, {"x": where}, replace(grids, batch_size=size), colour_classifier()
        )
        return found.values["grid_top"]["x"]

    assert torch.equal(ask(1), ask(5))


def test_a_killed_evaluation_goes_on(grids: Images, tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    whole_run = ask_all(GRID_POINTING, {"where": where}, grids, colour_classifier(), keep=3)
    killed, rest = Recorded(stop_after=12), Recorded()
    ask = partial(
        ask_all,
        GRID_POINTING,
        images=grids,
        classifier=colour_classifier(),
        keep=3,
        progress=progress,
    )
    with pytest.raises(KeyboardInterrupt):
        ask({"where": killed})
    found = ask({"where": rest})
    assert rest.images == 20 - 8  # of the batch that was cut off, all questions again
    assert torch.equal(found.maps["where"], whole_run.maps["where"])
    for metric, by_method in whole_run.values.items():
        assert torch.equal(found.values[metric]["where"], by_method["where"])


def test_a_zero_of_its_own_is_read_from_the_method(grids: Images) -> None:
    def shifted(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return where(batch, classifier) + 1

    class Neutral:
        zero_is_neutral = True

        def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
            return shifted(batch, classifier)

    methods: dict[str, Method] = {"median": shifted, "neutral": Neutral()}
    share = ask_all(GRID_POINTING, methods, grids, colour_classifier()).values["grid_share"]
    assert (share["median"] == 1).all()
    expected = torch.full((20,), 2 / (2 + 3 * 1))  # each cell has the value 1, the asked one 2
    assert torch.allclose(share["neutral"], expected, atol=0.01)
