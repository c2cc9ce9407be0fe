"""Data modules: which images, in which order, in which form."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.image_file_dataset import ImageFiles
from saliency_vae.data.image_folder import ImageFolderData
from saliency_vae.data.imagenet import ImageNetData
from saliency_vae.data.imagenet_streaming import ImageNetStreamingData
from tests.conftest import make_trainer
from tests.helpers.numbered_images import SQUARE, Recorder, numbers, write_images


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write_images(tmp_path / "train/n01", 7)
    write_images(tmp_path / "train/n02", 6, first=7)
    write_images(tmp_path / "val/n01", 5, first=20)
    return tmp_path


def attach(data: SaliencyDataModule, run: Path, **arguments: Any) -> Trainer:
    trainer = make_trainer(run, **arguments)
    data.trainer = trainer
    data.preprocessing = SQUARE
    return trainer


def test_imagenet_gives_square_uint8_batches(tree: Path) -> None:
    data = ImageNetData(str(tree), batch_size=4, num_workers=0)
    attach(data, tree)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [tuple(batch["image"].shape) for batch in batches] == [(4, 3, 16, 16)] * 3
    assert {batch["image"].dtype for batch in batches} == {torch.uint8}
    assert {*batches[0]} == {"image", "index", "skipped"}  # no labels
    assert isinstance(data.train_set, ImageFiles)
    for image, index in zip(batches[0]["image"], batches[0]["index"].tolist(), strict=True):
        assert data.train_set.name(index).endswith(f"{int(image[0, 0, 0]):02}.png")
    assert len(set(numbers(data.train_dataloader()))) == 12  # of 13: the incomplete batch goes
    assert numbers(data.val_dataloader()) == [20, 21, 22, 23, 24]


def test_imagenet_with_worker_processes(tree: Path) -> None:
    data = ImageNetData(str(tree), batch_size=4, num_workers=1)
    attach(data, tree)
    data.setup("validate")
    assert numbers(data.val_dataloader()) == [20, 21, 22, 23, 24]


def test_validation_alone_does_not_list_training_images(tree: Path) -> None:
    data = ImageNetData(str(tree))
    for path in tree.glob("train/*/*.png"):
        path.unlink()
    data.setup("validate")
    with pytest.raises(ValueError, match=f"below {tree}/train"):
        data.setup("fit")


def test_imagenet_without_root_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"data\.root") as error:
        ImageNetData(None)
    assert "IMAGENET_ROOT" in str(error.value)
    assert "experiment=cluttered_digits" in str(error.value)


def test_shards_without_litdata_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litdata", None)
    with pytest.raises(ValueError, match=r"saliency-vae\[streaming\]"):
        ImageNetStreamingData("/shards")


@pytest.mark.parametrize("missing", ["train", "val"])
def test_imagenet_without_a_split_names_it(tree: Path, missing: str) -> None:
    (tree / missing).rename(tree / "elsewhere")
    with pytest.raises(ValueError, match=f"Not found: {tree / missing}") as error:
        ImageNetData(str(tree))
    assert "image_folder" in str(error.value)


def folder(root: Path, seed: int = 0, fraction: float = 0.3) -> tuple[list[Path], list[Path]]:
    """Training and validation files."""
    data = ImageFolderData(str(root), validation_fraction=fraction, seed=seed)
    data.setup("fit")
    assert isinstance(data.train_set, ImageFiles)
    assert isinstance(data.val_set, ImageFiles)
    return list(data.train_set.paths), list(data.val_set.paths)


def test_image_folder_split_is_disjoint_complete_and_seeded(tree: Path) -> None:
    train, val = folder(tree)
    assert not set(train) & set(val)
    assert set(train) | set(val) == set(tree.rglob("*.png"))
    assert len(train) + len(val) == 18
    assert len(val) == 5  # 0.3 x 18
    assert folder(tree) == (train, val)
    assert folder(tree, seed=1)[1] != val


def test_further_files_leave_the_split_as_it_was(tree: Path) -> None:
    train, val = folder(tree)
    for number in range(30, 33):
        write_images(tree / f"a/{number}", 1, first=number)  # before all others
        assert len(set(folder(tree)[1]) & set(train)) <= 1  # where one more is wanted
    assert len(set(folder(tree)[0]) & set(val)) <= 2
    before = {path.relative_to(tree) for path in folder(tree)[1]}
    moved = tree.rename(tree.with_name("moved"))
    assert {path.relative_to(moved) for path in folder(moved)[1]} == before


def test_image_folder_needs_no_class_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "flat", 10)
    data = ImageFolderData(str(tmp_path / "flat"), batch_size=3, num_workers=0)
    attach(data, tmp_path)
    data.setup("fit")
    seen = numbers(data.val_dataloader())
    assert len(seen) == 1
    assert len({*numbers(data.train_dataloader()), *seen}) == 10


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_image_folder_keeps_an_image_for_each_split(tmp_path: Path, fraction: float) -> None:
    write_images(tmp_path / "few", 3)
    train, val = folder(tmp_path / "few", fraction=fraction)
    assert train
    assert val


@pytest.mark.parametrize("root", [None, "/nowhere"])
def test_image_folder_without_root(root: str | None) -> None:
    with pytest.raises(ValueError, match=r"data\.root"):
        ImageFolderData(root)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_image_folder_fraction_out_of_range(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(ValueError, match=r"data\.validation_fraction"):
        ImageFolderData(str(tmp_path), validation_fraction=fraction)


def test_image_folder_of_one_image(tmp_path: Path) -> None:
    write_images(tmp_path / "one", 1)
    with pytest.raises(ValueError, match="at least 2 images"):
        folder(tmp_path / "one")


def test_negative_workers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.num_workers"):
        ImageFolderData(str(tmp_path), num_workers=-1)


def per_device(size: int, devices: int, accumulate: int = 1) -> int:
    trainer: Any = SimpleNamespace(world_size=devices, accumulate_grad_batches=accumulate)
    data = SaliencyDataModule(batch_size=size, num_workers=0, seed=0)
    return data.per_device_batch_size(trainer)


def test_per_device_batch_size() -> None:
    assert per_device(128, 4) == 32
    assert per_device(128, 4, 8) == 4
    assert per_device(6, 3, 2) == 1


@pytest.mark.parametrize(
    ("size", "devices", "accumulate"), [(0, 1, 1), (-4, 2, 1), (6, 4, 1), (8, 2, 3), (2, 4, 1)]
)
def test_a_batch_that_does_not_divide(size: int, devices: int, accumulate: int) -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size") as error:
        per_device(size, devices, accumulate)
    assert f"{devices} devices x {accumulate}" in str(error.value)
    assert f"Found {size}." in str(error.value)


def test_accumulation_divides_the_batch(tree: Path) -> None:
    data = ImageNetData(str(tree), batch_size=6, num_workers=0)
    attach(data, tree, accumulate_grad_batches=3)
    data.setup("fit")
    assert data.train_dataloader().batch_size == 2


@pytest.mark.parametrize("devices", [1, 2])
def test_accumulated_batches_are_the_same_steps(tree: Path, devices: int) -> None:
    def steps(accumulate: int, rank: int) -> tuple[int, list[int]]:
        data = ImageNetData(str(tree), batch_size=4, num_workers=0)
        trainer = attach(data, tree, accumulate_grad_batches=accumulate)
        data.trainer = SimpleNamespace(  # type: ignore[assignment]
            world_size=devices,
            global_rank=rank,
            accumulate_grad_batches=accumulate,
            strategy=trainer.strategy,
            fit_loop=trainer.fit_loop,
        )
        data.setup("fit")
        loader = data.train_dataloader()
        return len(loader), numbers(loader)

    for rank in range(devices):
        (number, whole), (twice, halved) = (steps(accumulate, rank) for accumulate in (1, 2))
        assert (number, twice) == (3, 6)  # of 13 images
        assert whole == halved


def test_validation_needs_an_image(tree: Path) -> None:
    data = ImageNetData(str(tree), batch_size=4, num_workers=0)
    attach(data, tree)
    data.setup("fit")
    data.val_set = ImageFiles([], SQUARE)
    with pytest.raises(ValueError, match=r"Expected at least one image to validate .*Found none\."):
        data.val_dataloader()


def test_images_become_float_in_0_1(tree: Path) -> None:
    image = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, 16, 16)
    mask = torch.ones(2, 16, 16, dtype=torch.bool)
    batch = {"image": image, "mask": mask}
    moved = ImageNetData(str(tree)).on_after_batch_transfer(batch, 0)
    expected = image.numpy().astype(np.float32) / 255
    assert moved["image"].dtype == torch.float32
    np.testing.assert_allclose(moved["image"].numpy(), expected, rtol=1e-6)
    assert moved["mask"] is mask
    assert batch["image"].dtype == torch.uint8  # the caller's own batch is untouched


def order(data: SaliencyDataModule, epoch: int) -> list[int]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return numbers(loader)


def test_the_order_is_a_function_of_seed_and_epoch(tree: Path) -> None:
    def orders(seed: int) -> list[list[int]]:
        torch.rand(1)  # other random numbers must not matter
        data = ImageNetData(str(tree), batch_size=1, num_workers=0, seed=seed)
        attach(data, tree)
        data.setup("fit")
        return [order(data, epoch) for epoch in (0, 1, 2)]

    first, second, third = orders(3)
    assert orders(3) == [first, second, third]
    assert first != second != third != first
    assert sorted(first) == sorted(second) == list(range(13))
    assert first != list(range(13))
    assert orders(4)[0] != first


def test_lightning_shuffles_anew_each_epoch_and_the_same_each_run(tree: Path) -> None:
    def run() -> list[list[int]]:
        data = ImageNetData(str(tree), batch_size=2, num_workers=0)
        data.preprocessing = SQUARE
        module = Recorder()
        make_trainer(tree, max_epochs=3).fit(module, datamodule=data)
        return module.seen

    seen = run()
    assert [len(set(epoch)) for epoch in seen] == [12, 12, 12]
    assert seen[0] != seen[1] != seen[2] != seen[0]
    assert run() == seen


def test_two_ranks_share_the_images(tree: Path) -> None:
    data = ImageNetData(str(tree), batch_size=4, num_workers=0)
    data.preprocessing = SQUARE
    data.setup("fit")
    seen = []
    for rank in (0, 1):
        trainer: Any = SimpleNamespace(
            world_size=2,
            global_rank=rank,
            accumulate_grad_batches=1,
            strategy=SimpleNamespace(root_device=torch.device("cpu")),
            fit_loop=make_trainer(tree).fit_loop,
        )
        data.trainer = trainer
        loader = data.train_dataloader()
        assert loader.batch_size == 2
        seen.append(numbers(loader))
    assert len(seen[0]) == len(seen[1]) == 6
    assert not set(seen[0]) & set(seen[1])
