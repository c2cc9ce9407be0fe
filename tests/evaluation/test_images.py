"""The images to evaluate on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_folder import ImageFolderData
from saliency_vae.data.imagenet import ImageNetData
from saliency_vae.data.preprocessing import Preprocessing
from saliency_vae.evaluation.images import Images, check_split, evaluation_images

CPU = torch.device("cpu")
FOLDER = "saliency_vae.data.image_folder.ImageFolderData"


def images(number: int = 7, batch_size: int = 3) -> Images:
    digits = ClutteredDigits("test", number, image_size=32)
    return Images(digits, name="digits", batch_size=batch_size, num_workers=0, device=CPU)


def test_batches_are_floats_with_masks_in_order() -> None:
    dataset = ClutteredDigits("test", 7, image_size=32)
    batches = list(images())
    assert [len(batch["image"]) for batch in batches] == [3, 3, 1]
    assert torch.equal(
        torch.cat([batch["image"] for batch in batches]), dataset.images.float() / 255
    )
    assert torch.equal(torch.cat([batch["mask"] for batch in batches]), dataset.masks)
    assert set(batches[0]) == {"image", "mask"}


def test_they_can_be_gone_through_again() -> None:
    found = images()
    first, second = (torch.cat([batch["image"] for batch in found]) for _ in range(2))
    assert torch.equal(first, second)


def test_first_and_as_batch() -> None:
    found = images()
    assert len(found) == 7
    assert len(found.first(2)) == 2
    assert len(found.first(20)) == 7
    assert len(found.first(0)) == 0
    assert list(found.first(0)) == []
    batch = found.first(5).as_batch()
    assert torch.equal(batch["image"], torch.cat([b["image"] for b in found])[:5])


def test_test_images_where_there_are_some() -> None:
    data = ClutteredDigitsData(image_size=32, train_size=4, val_size=5, test_size=6)
    found, _ = evaluation_images(data, Preprocessing(), None)
    assert torch.equal(found[2]["image"], ClutteredDigits("test", 6, image_size=32).images[2])
    assert len(found) == 6  # type: ignore[arg-type]


def test_validation_images_where_there_are_no_others(tmp_path: Path) -> None:
    for index in range(10):
        pixels = np.full((20, 20, 3), 10 * index, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    data = ImageFolderData(str(tmp_path), validation_fraction=0.3)
    found, left_out = evaluation_images(data, Preprocessing(16, (16, 16)), None)
    assert left_out == ()
    assert isinstance(found, ImageFiles)
    assert len(found) == 3
    assert found[0]["image"].shape == (3, 16, 16)


def classes(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An ImageNet tree of 5 classes with 8 images each; returns the files as they are read."""
    for index in range(40):
        path = root / f"val/{index // 8}/{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), index, dtype=np.uint8)).save(path)
    (root / "train/0").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(root / "train/0/0.png")
    read: list[str] = []
    real = ImageFiles.read

    def spy(files: ImageFiles, index: int) -> torch.Tensor | str:
        read.append(files.name(index))
        return real(files, index)

    monkeypatch.setattr(ImageFiles, "read", spy)
    return read


def numbers(root: Path, limit: int | None, seed: int) -> list[int]:
    found, _ = evaluation_images(ImageNetData(str(root)), Preprocessing(), limit, seed=seed)
    size = len(found)  # type: ignore[arg-type]
    return [int(found[i]["image"][0, 0, 0]) for i in range(size)]


def test_image_files_come_in_a_seeded_random_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = classes(tmp_path, monkeypatch)
    few = numbers(tmp_path, 10, seed=0)
    assert len(set(read)) == 10  # the others are not even opened
    assert len({number // 8 for number in few}) >= 4  # of the 5 classes; the first 10 are of 2
    whole = numbers(tmp_path, None, seed=0)
    assert whole[:10] == few
    assert sorted(whole) == list(range(40))
    assert whole not in (sorted(whole), numbers(tmp_path, None, seed=1))


@pytest.mark.parametrize(("limit", "number"), [(2, 2), (50, 6)])
def test_limit(limit: int, number: int) -> None:
    data = ClutteredDigitsData(image_size=32, train_size=4, val_size=5, test_size=6)
    found, _ = evaluation_images(data, Preprocessing(), limit)
    assert len(found) == number  # type: ignore[arg-type]


def test_no_image_is_refused() -> None:
    data = ClutteredDigitsData(image_size=32, train_size=4, val_size=5, test_size=6)
    with pytest.raises(ValueError, match=r"Expected limit >= 1 image. Found 0."):
        evaluation_images(data, Preprocessing(), 0)


def folder(root: str = "photos", **changes: Any) -> dict[str, Any]:
    return {"_target_": FOLDER, "root": root, "seed": 0, "validation_fraction": 0.1} | changes


def test_another_split_of_the_trained_directory_is_refused() -> None:
    trained = folder(seed=3)
    with pytest.raises(ValueError, match=r"Expected data.seed=3, as in training.* Found data.seed"):
        check_split(folder(), trained)
    with pytest.raises(ValueError, match=r"Expected data.validation_fraction=0.1"):
        check_split(folder(seed=3, validation_fraction=0.5), trained)
    with pytest.raises(ValueError, match=r"data.seed=3"):
        check_split(folder(root="./other/../photos"), trained)


def test_another_split_of_one_of_several_trained_directories_is_refused() -> None:
    trained = {"_target_": "mixed", "parts": {"a": folder("others"), "b": folder(seed=3)}}
    with pytest.raises(ValueError, match=r"Expected data.seed=3, as in training"):
        check_split(folder(), trained)


@pytest.mark.parametrize("root", ["photos/cats", "."])
def test_a_directory_within_or_around_the_trained_one_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match=rf"Expected data.root=photos, .* Found {root}\."):
        check_split(folder(root), folder())


@pytest.mark.parametrize(
    "trained",
    [None, folder(), folder("others", seed=3), {"_target_": "elsewhere.Data", "root": "photos"}],
)
def test_other_images_may_be_split_otherwise(trained: dict[str, Any] | None) -> None:
    check_split(folder(), trained)


def test_data_with_splits_of_their_own_may_have_any_seed() -> None:
    node = {"_target_": "saliency_vae.data.imagenet.ImageNetData", "root": "photos", "seed": 0}
    check_split(node, node | {"seed": 1})
