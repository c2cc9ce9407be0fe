"""Images of two objects: the map of a class must lie on its object."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from saliency_vae.baselines import CentrePrior, Method, Oracle, RandomMap
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.pointing.questions import ask_all
from saliency_vae.evaluation.pointing.two_objects import TWO_OBJECTS, two_object_images
from tests.evaluation.pointing.colours import COLOURS, CPU, colour_classifier, where
from tests.helpers.made_cutouts import write_all

METRICS = ("two_objects_point", "two_objects_iou", "two_objects_share")
SIZE = 16


class Pairs(Dataset[Batch]):
    """Grey images with two squares of different colours, the second one larger."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Batch:
        image = torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8)
        masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
        masks[0, 1:4, index : index + 3] = True
        masks[1, 8:14, index : index + 6] = True
        classes = torch.tensor([index, (index + 1) % 5])
        for mask, colour in zip(masks, classes.tolist(), strict=True):
            image[:, mask] = (255 * COLOURS[colour, :, None]).to(torch.uint8)
        return {"image": image, "object_masks": masks, "object_classes": classes}


PAIRS = Images(Pairs(), name="pairs", batch_size=2, num_workers=0, device=CPU)


def both(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    """The same for both questions: all that is not grey."""
    return (batch["image"] - 100 / 255).abs().amax(1)


def other(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    return (both(batch, classifier) > 0.1).float() - where(batch, classifier)


def test_the_truth_wins_and_controls_are_at_chance() -> None:
    methods: dict[str, Method] = {
        "where": where,
        "oracle": Oracle(),
        "other": other,
        "both": both,
        "random": RandomMap(),
        "centre": CentrePrior(),
    }
    answers = ask_all(TWO_OBJECTS, methods, PAIRS, colour_classifier())
    assert set(answers.values) == set(METRICS)
    assert answers.left_out == ()
    for metric in METRICS:
        values = answers.values[metric]
        assert all(found.shape == (10,) for found in values.values())  # one for each question
        assert (values["where"] == 1).all()
        assert (values["oracle"] > 0.95).all()
        assert (values["other"] == 0).all() or metric == "two_objects_iou"
    for control in ("random", "centre"):
        hits = answers.values["two_objects_point"][control].view(5, 2)
        assert (hits.sum(1) <= 1).all()
        share = answers.values["two_objects_share"][control].view(5, 2).mean(1)
        assert torch.allclose(share, torch.full((5,), 0.5), atol=1e-6)


def test_scores_by_hand() -> None:
    """A map of half of the first object and nothing else, whatever is asked."""

    def half(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        maps = torch.zeros_like(batch["image"][:, 0])
        for saliency, image in zip(maps, batch["image"], strict=True):
            index = int((pictures == image).flatten(1).all(1).nonzero()[0])
            saliency[1:4, index : index + 1] = 1.0  # a third of its nine pixels
        return maps

    first = PAIRS.first(2)
    pictures = first.as_batch()["image"]
    values = ask_all(TWO_OBJECTS, {"half": half}, first, colour_classifier()).values
    assert values["two_objects_point"]["half"].tolist() == [1, 0, 1, 0]
    assert values["two_objects_share"]["half"].tolist() == [1, 0, 1, 0]
    kept = half(first.as_batch(), colour_classifier())
    for index, mask in enumerate(first.as_batch()["object_masks"].unbind(0)):
        expected = []
        for of_object in mask:
            order = kept[index].flatten().argsort(descending=True, stable=True)
            chosen = set(order[: int(of_object.sum())].tolist())
            true = set(of_object.flatten().nonzero().flatten().tolist())
            expected.append(len(chosen & true) / len(chosen | true))
        found = values["two_objects_iou"]["half"].view(2, 2)[index]
        assert found.tolist() == pytest.approx(expected)


def colours(seen: Tensor) -> Tensor:
    """Sure of a class by the brightest red; of the test objects two are brighter than 222."""
    brightest = 255 * seen[:, 0].flatten(1).quantile(0.995, 1)
    return one_hot((brightest > 100).long() + (brightest > 222).long(), 3) * 0.97 + 0.01


def test_images_of_two_objects_come_from_cutouts(tmp_path: Path) -> None:
    write_all(tmp_path, groups=True)
    data = CutoutsData(
        str(tmp_path / "cutouts"), str(tmp_path / "backgrounds"), image_size=48, test_portion=1
    )
    data.setup("test")
    like = Images(data.test_set, name="scenes", batch_size=2, num_workers=0, device=CPU)
    found = two_object_images(data, like, colours, 3)
    assert len(found) == 3
    assert found.name.startswith("3 of ")
    batch = next(iter(found))
    assert batch["image"].shape == (2, 3, 48, 48)
    assert batch["image"].max() <= 1
    assert batch["object_masks"].shape == (2, 2, 48, 48)
    assert batch["object_classes"].sort(1).values.tolist() == [[1, 2], [1, 2]]
    assert torch.equal(batch["group"], batch["object_groups"][:, 0])
    answers = ask_all(TWO_OBJECTS, {"centre": CentrePrior()}, found, colour_classifier())
    expected = [group for part in found for group in part["object_groups"].flatten().tolist()]
    assert answers.groups.tolist() == expected

    def blind(seen: Tensor) -> Tensor:
        return torch.tensor([[0.1, 0.9]]).expand(len(seen), -1)

    with pytest.raises(ValueError, match=r"Expected images of two objects\. Found 0 of \d+ scenes"):
        two_object_images(data, like, blind, 2)


def test_other_data_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected data=cutouts .* Found ClutteredDigitsData"):
        two_object_images(ClutteredDigitsData(train_size=4), PAIRS, colours, 2)
