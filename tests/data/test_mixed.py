"""Several tasks in one training: each batch is of one task, in an order that can be resumed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset

from saliency_vae.data.batch import Batch
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.mixed import FixedTaskOrder, MixedData, Task, TaskImages, TaskOrder
from tests.conftest import make_trainer

SIZES = (40, 24, 80)
WEIGHTS = (1.0, 2.0, 5.0)
BATCH = 4


class Numbered(Dataset[Batch]):
    """Images whose pixels are their number; those of each task have a size of their own."""

    def __init__(self, size: int, side: int) -> None:
        self.size = size
        self.side = side

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Batch:
        image = torch.full((3, self.side, self.side), index, dtype=torch.uint8)
        found: Batch = {"image": image, "index": torch.tensor(index), "label": torch.tensor(7)}
        if self.side == 16:
            found["mask"] = torch.ones(self.side, self.side, dtype=torch.bool)
        return found


class NumberedData(SaliencyDataModule):
    """Training and half as many validation images."""

    def __init__(self, size: int, side: int) -> None:
        super().__init__(batch_size=1, num_workers=0, seed=0)
        self.size, self.side = size, side
        self.prepared: list[str] = []

    def prepare_data(self) -> None:
        self.prepared.append("data")

    def setup(self, stage: str) -> None:
        self.prepared.append(stage)
        self.train_set = Numbered(self.size, self.side)
        self.val_set = Numbered(self.size // 2, self.side)


def tasks(sizes: Sequence[int] = SIZES, weights: Sequence[float] = WEIGHTS) -> list[Task]:
    return [
        Task(f"task{number}", NumberedData(size, 16 + 2 * number), weight)
        for number, (size, weight) in enumerate(zip(sizes, weights, strict=True))
    ]


def order(
    sizes: Sequence[int] = SIZES,
    weights: Sequence[float] = WEIGHTS,
    *,
    epoch: int = 0,
    start: int = 0,
    batch_size: int = BATCH,
    accumulate: int = 1,
    shuffle: bool = True,
    **settings: Any,
) -> TaskOrder:
    images: list[Dataset[Batch]] = [TaskImages(Numbered(n, 16), i) for i, n in enumerate(sizes)]
    defaults = {"num_replicas": 1, "rank": 0, "seed": 0, "drop_last": False}
    data = MixedData(tasks(sizes, weights), batch_size)
    made = data._order(
        ConcatDataset(images),
        batch_size,
        batch_size * accumulate,
        shuffle=shuffle,
        **(defaults | settings),
    )
    made.set_epoch(epoch)
    made.start = start
    return made


def batches(found: Sequence[int], size: int = BATCH) -> list[list[int]]:
    assert len(found) % size == 0
    return [list(found[i : i + size]) for i in range(0, len(found), size)]


def task_of(index: int, sizes: Sequence[int] = SIZES) -> int:
    for task, size in enumerate(sizes):
        if index < size:
            return task
        index -= size
    raise AssertionError("Out of range.")


def task_sequence(found: Sequence[int], size: int = BATCH) -> list[int]:
    """Task of each batch, which all of its images must share."""
    sequence: list[int] = []
    for batch in batches(found, size):
        of_images = {task_of(index) for index in batch}
        assert len(of_images) == 1, batch
        sequence += of_images
    return sequence


def test_each_batch_is_of_one_task_and_all_indices_are_in_range() -> None:
    made = order()
    found = list(made)
    assert isinstance(made, TaskOrder)
    assert len(found) == len(made) == sum(SIZES)
    assert 0 <= min(found) <= max(found) < sum(SIZES)
    assert set(task_sequence(found)) == {0, 1, 2}
    for batch in batches(found):
        assert len(set(batch)) == len(batch)


def test_shares_follow_the_weights() -> None:
    drawn = [task for epoch in range(60) for task in task_sequence(list(order(epoch=epoch)))]
    number = len(drawn)
    for task, weight in enumerate(WEIGHTS):
        expected = weight / sum(WEIGHTS)
        deviation = (expected * (1 - expected) / number) ** 0.5
        assert drawn.count(task) / number == pytest.approx(expected, abs=4 * deviation)


def test_the_scale_of_the_weights_is_of_no_account() -> None:
    assert list(order(weights=[2 * weight for weight in WEIGHTS])) == list(order())


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    first = list(order(epoch=3, seed=5))
    torch.rand(7)
    assert list(order(epoch=3, seed=5)) == first
    others = [order(epoch=4, seed=5), order(epoch=3, seed=6)]
    for other in map(list, others):
        assert other != first
        assert task_sequence(other) != task_sequence(first)


def test_images_of_a_task_are_all_used_before_one_comes_again() -> None:
    sizes, weights = (40, 24, 80), (1.0, 6.0, 1.0)
    found = list(order(sizes, weights))
    of_second = [index - 40 for index in found if 40 <= index < 64]
    assert len(of_second) > 2 * 24
    for start in range(0, len(of_second) - 23, 24):
        assert sorted(of_second[start : start + 24]) == list(range(24))
    assert of_second[:24] != of_second[24:48]  # in another order


def test_a_task_smaller_than_a_batch_repeats() -> None:
    sizes = (3, 61)
    found = list(order(sizes, (1.0, 1.0), batch_size=8))
    small = [batch for batch in batches(found, 8) if max(batch) < 3]
    assert small
    assert all({*batch} == {0, 1, 2} for batch in small)
    shown = [index for batch in small for index in batch]
    counts = [shown.count(index) for index in range(3)]
    assert max(counts) - min(counts) <= 1
    assert all(min(batch) >= 3 for batch in batches(found, 8) if batch not in small)


def test_two_devices_share_each_batch_of_the_same_tasks() -> None:
    one = list(order(batch_size=2 * BATCH))
    ranks = [list(order(num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert task_sequence(ranks[0]) == task_sequence(ranks[1]) == task_sequence(one, 2 * BATCH)
    for whole, first, second in zip(batches(one, 2 * BATCH), *map(batches, ranks), strict=True):
        assert sorted(first + second) == sorted(whole)
        assert not set(first) & set(second)


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_are_the_same_steps(accumulate: int, devices: int) -> None:
    sizes = (43, 29, 83)  # whole steps of none
    for rank in range(devices):
        own: dict[str, Any] = {"num_replicas": devices, "rank": rank, "epoch": 3}
        whole = order(sizes, batch_size=8, **own)
        divided = order(sizes, batch_size=8 // accumulate, accumulate=accumulate, **own)
        assert list(divided) == list(whole)
        assert len(divided) == len(whole) == len(list(whole))


@pytest.mark.parametrize("done", [0, 1, 7, 36])
def test_an_epoch_goes_on_within(done: int) -> None:
    assert list(order(epoch=2, start=done * BATCH)) == list(order(epoch=2))[done * BATCH :]


@pytest.mark.parametrize("devices", [1, 2])
def test_validation_is_whole_steps_of_each_task_in_turn(devices: int) -> None:
    sizes, step = (9, 16, 31), BATCH * devices
    made = [
        order(sizes, shuffle=False, epoch=epoch, num_replicas=devices, rank=rank)
        for epoch in (0, 3)
        for rank in range(devices)
    ]
    assert all(isinstance(one, FixedTaskOrder) for one in made)
    found = [list(one) for one in made]
    assert found[:devices] == found[devices:]  # the same in each epoch
    expected = []
    first = 0
    for size in sizes:
        expected += list(range(first, first + size // step * step))
        first += size
    assert sorted(index for one in found[:devices] for index in one) == expected
    for one in found:
        sequence = [{task_of(index, sizes) for index in batch} for batch in batches(one)]
        assert all(len(of_images) == 1 for of_images in sequence)
        turns = [(0, 1, 2), (0, 1, 2), (1, 2), (1, 2), *[(2,)] * 3]
        if devices == 2:
            turns = [(0, 1, 2), (1, 2), (2,)]
        assert sequence == [{task} for turn in turns for task in turn]


def test_validation_with_accumulation_is_of_the_same_images_in_turn() -> None:
    whole, divided = (
        list(order((9, 20), (1, 1), shuffle=False, batch_size=size, accumulate=8 // size))
        for size in (8, 2)
    )
    assert sorted(divided) == sorted(whole) == [*range(8), *range(9, 25)]
    assert [task_of(first, (9, 20)) for first in divided[::2][:6]] == [0, 1] * 3


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match=rf"tasks\.task1\.weight > 0\. Found {weight}\."):
        MixedData(tasks(weights=(1.0, weight, 1.0)))


def test_data_without_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected tasks beside data=mixed, .*\. Found none: exp"):
        MixedData()


# ---- the data module


@pytest.fixture
def data(tmp_path: Path) -> MixedData:
    made = MixedData(tasks(), batch_size=BATCH, num_workers=0)
    made.trainer = make_trainer(tmp_path)
    return made


def test_each_task_is_prepared_and_set_up(data: MixedData) -> None:
    data.prepare_data()
    data.setup("fit")
    for task in data.tasks:
        assert isinstance(task.data, NumberedData)
        assert task.data.prepared == ["data", "fit"]
    assert (len(data.train_set), len(data.val_set)) == (144, 72)


def test_validation_alone_needs_no_training_images(data: MixedData) -> None:
    data.setup("validate")
    assert not hasattr(data, "train_set")
    assert len(data.val_set) == 72


@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_hold_their_task_as_a_number(data: MixedData, split: str) -> None:
    data.setup("fit")
    loader = data.train_dataloader() if split == "train" else data.val_dataloader()
    found = list(loader)
    assert len(found) == len(loader) == sum(SIZES) // BATCH // (1 if split == "train" else 2)
    for batch in found:
        task = batch["task"]
        assert type(task) is int
        assert batch["image"].shape == (BATCH, 3, 16 + 2 * task, 16 + 2 * task)
        assert batch["image"].amax() < SIZES[task]
        # Where one task has masks and another has none, that does not matter; nor do labels.
        assert set(batch) == {"image", "index", "task"} | ({"mask"} if task == 0 else set())
    assert {batch["task"] for batch in found} == {0, 1, 2}


@pytest.mark.parametrize("sizes", [(9, 7), (10, 11), (13, 4)])
def test_the_length_of_a_loader_is_its_number_of_batches(
    sizes: tuple[int, int], tmp_path: Path
) -> None:
    data = MixedData(tasks([2 * size for size in sizes], (1.0, 1.0)), BATCH, num_workers=0)
    data.trainer = make_trainer(tmp_path)
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert len(list(loader)) == len(loader)
