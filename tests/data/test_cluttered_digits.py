"""Cluttered digits: each image a function of (seed, split, index), with its true mask."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from saliency_vae.data import digit_painter
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.data.digit_painter import DigitPainter, Split
from tests.conftest import make_trainer

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def painter(split: Split) -> DigitPainter:
    return DigitPainter(split, seed=0, image_size=48)


def draw(split: Split = "train", index: int = 0, seed: int = 0, size: int = 48) -> Any:
    return DigitPainter(split, seed=seed, image_size=size).draw(index)


@pytest.mark.parametrize("split", SPLITS)
def test_an_image_is_a_function_of_seed_split_and_index(split: Split) -> None:
    image, mask, label = draw(split, 5, seed=2)
    np.random.default_rng(9).random(100)
    draw(split, 6, seed=2)
    again = draw(split, 5, seed=2)
    assert np.array_equal(image, again[0])
    assert np.array_equal(mask, again[1])
    assert label == again[2]
    others = [draw(split, 6, seed=2), draw(split, 5, seed=3)]
    others += [draw(other, 5, seed=2) for other in SPLITS if other != split]
    for other in others:
        assert not np.array_equal(image, other[0])


def test_an_image_does_not_depend_on_how_many_are_drawn() -> None:
    few, many = ClutteredDigits("val", 3, seed=1), ClutteredDigits("val", 9, seed=1)
    assert len(few) == 3
    assert torch.equal(few.images, many.images[:3])
    assert torch.equal(few.masks, many.masks[:3])
    assert torch.equal(few.labels, many.labels[:3])
    image, mask, label = draw("val", 2, seed=1)
    item = few[2]
    assert np.array_equal(item["image"].permute(1, 2, 0).numpy(), image)
    assert np.array_equal(item["mask"].numpy(), mask)
    assert int(item["label"]) == label


def test_splits_share_no_source_digit_and_use_all() -> None:
    writers = digit_painter._WRITERS
    assert (
        np.concatenate(writers).tolist() == list(range(1797)) == [*range(len(load_digits().data))]
    )
    used = [writer for split in SPLITS for writer in digit_painter._SPLIT_WRITERS[split]]
    assert sorted(used) == list(range(len(writers)))
    drawn = {split: {ink.tobytes() for ink in painter(split).ink} for split in SPLITS}
    assert sum(len(inks) for inks in drawn.values()) == len(set.union(*drawn.values()))
    for split in SPLITS:  # every split knows every class
        assert set(painter(split).labels.tolist()) == set(range(10))


@pytest.mark.parametrize("size", [32, 48, 64, 97])
def test_the_mask_marks_a_bright_digit_on_a_darker_background(size: int) -> None:
    data = ClutteredDigits("test", 40, image_size=size)
    assert data.images.shape == (40, 3, size, size)
    assert data.images.dtype == torch.uint8
    assert data.masks.dtype == torch.bool
    images = data.images.float().mean(1)
    share = data.masks.float().mean((1, 2))
    # 20 to 28 of 48 pixels' side, of which the strokes are a part.
    assert share.min() > 0.01
    assert share.max() < (28 / 48) ** 2
    for image, mask in zip(images, data.masks, strict=True):
        # The lightest tint is 0.5; a digit's colour is at least 0.6, at full ink.
        assert image[mask].mean() > image[~mask].mean() + 25


def test_the_mask_is_where_the_digit_changed_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    with_digit, mask, _ = draw(index=4)
    enlarged = DigitPainter.enlarged
    calls: list[int] = []

    def without_last(self: DigitPainter, which: int, side: int) -> Any:
        calls.append(which)
        ink = enlarged(self, which, side)
        return np.zeros_like(ink) if len(calls) == digit_painter._FRAGMENTS + 1 else ink

    monkeypatch.setattr(DigitPainter, "enlarged", without_last)
    without_digit, empty, _ = draw(index=4)
    assert not empty.any()
    changed = (with_digit != without_digit).any(-1)
    assert mask.any()
    assert (changed & mask).sum() > 0.95 * mask.sum()  # noise may equal the digit's colour
    rows, columns = np.nonzero(mask)
    box = np.zeros_like(mask)
    margin = 8  # faint ink around the strokes changes pixels too
    box[
        max(0, rows.min() - margin) : rows.max() + 1 + margin,
        max(0, columns.min() - margin) : columns.max() + 1 + margin,
    ] = True
    assert not (changed & ~box).any()


def test_labels_are_those_of_the_source_digits() -> None:
    digits = load_digits()
    by_ink = {
        (image / 16).astype(np.float32).tobytes(): int(target)
        for image, target in zip(digits.images, digits.target, strict=True)
    }
    for split in SPLITS:
        drawn = painter(split)
        assert [by_ink[ink.tobytes()] for ink in drawn.ink] == drawn.labels.tolist()
    assert len(set(ClutteredDigits("train", 100).labels.tolist())) == 10


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("image_size", 31),
        ("image_size", 0),
        ("train_size", 0),
        ("val_size", -1),
        ("test_size", 0),
        ("num_workers", -1),
    ],
)
def test_a_size_out_of_range_names_the_setting(argument: str, value: int) -> None:
    arguments: dict[str, Any] = {argument: value}
    with pytest.raises(ValueError, match=rf"data\.{argument}.*Found {value}\."):
        ClutteredDigitsData(**arguments)


def test_the_data_module_gives_batches_with_masks(tmp_path: Any) -> None:
    data = ClutteredDigitsData(32, train_size=9, val_size=5, test_size=3, seed=4, batch_size=4)
    data.trainer = make_trainer(tmp_path)
    data.setup("fit")
    data.setup("test")
    assert data.has_test_set
    assert [len(batch["label"]) for batch in data.train_dataloader()] == [4, 4]
    assert [len(batch["label"]) for batch in data.val_dataloader()] == [4, 1]
    (batch,) = data.test_dataloader()
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["mask"].shape == (3, 32, 32)
    expected = ClutteredDigits("test", 3, seed=4, image_size=32)
    assert torch.equal(batch["image"], expected.images)
    drawn = data.test_set
    data.setup("test")
    assert data.test_set is drawn  # not drawn again
    moved = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(moved["image"], expected.images / 255)
    assert torch.equal(moved["label"], expected.labels)
