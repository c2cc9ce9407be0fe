"""Cut-outs on photographs: splits apart, scenes of (seed, split, index), test images that count."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torch.nn.functional import one_hot

from saliency_vae.data.cutout_files import (
    GROUPS,
    PORTIONS,
    Split,
    files_of,
    groups_of,
    load_rgba,
)
from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.data.scene_selection import own_classes, select
from tests.helpers.made_cutouts import cutout, write_all

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    write_all(root, groups=True)
    return root


def data(directory: Path, **settings: Any) -> CutoutsData:
    sizes = {"train": 8, "val": 4, "test": 6}
    defaults = {"image_size": 48, "sizes": sizes, "test_portion": 1, "batch_size": 4}
    arguments: dict[str, Any] = defaults | settings
    return CutoutsData(str(directory / "cutouts"), str(directory / "backgrounds"), **arguments)


@pytest.mark.parametrize("inside", [False, True])
def test_the_splits_share_no_group_and_leave_none_out(
    inside: bool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory / "cutouts")
    cutouts = Path() if inside else directory / "cutouts"
    parts = [files_of(split, cutouts) for split in ("train", "val")]
    parts += [files_of("test", cutouts, portion=portion) for portion in range(1, PORTIONS + 1)]
    groups = [{int(file.stem) // 2 for file in part} for part in parts]
    assert sum(len(group) for group in groups) == len(set.union(*groups)) == 12
    assert all(len(part) == 2 * len(group) for part, group in zip(parts, groups, strict=True))


def test_without_groups_each_file_is_by_itself(directory: Path) -> None:
    found = [len(files_of(split, directory / "backgrounds")) for split in SPLITS]
    assert found[0] == round(0.55 * 24)
    assert min(found) >= 2


def test_files_of_one_name_in_several_folders_are_groups_of_their_own() -> None:
    paths = ("cat/1.png", "dog/1.png", "dog/1.webp", "dog/2.png", "3.png")
    files = [Path("things") / path for path in paths]
    assert list(groups_of(Path("things"), files).values()) == ["cat/1", "dog/1", "dog/1", "2", "3"]


def test_names_that_groups_txt_does_not_hold_are_told_apart_too(tmp_path: Path) -> None:
    (tmp_path / GROUPS).write_text("a/1.png thing\nb/2.png thing")
    files = [tmp_path / path for path in ("a/1.png", "b/2.png", "b/1.png", "a/3.png", "b/3.png")]
    assert list(groups_of(tmp_path, files).values()) == ["thing", "thing", "1", "a/3", "b/3"]


def test_a_scene_is_a_function_of_seed_split_and_index(directory: Path) -> None:
    first, again, other = (data(directory, seed=seed).scenes("val") for seed in (1, 1, 2))
    assert torch.equal(first[3]["image"], again[3]["image"])
    assert torch.equal(first[3]["mask"], again[3]["mask"])
    assert not torch.equal(first[3]["image"], first[2]["image"])
    assert not torch.equal(first[3]["image"], other[3]["image"])
    assert first.name(3) == "val scene 3"


@pytest.mark.parametrize("objects", [(1, 1), (1, 3), (2, 2)])
def test_the_mask_is_of_all_objects(directory: Path, objects: tuple[int, int]) -> None:
    module = data(directory, objects=objects)
    module.setup("fit")
    numbers = set()
    for index in range(len(module.train_set)):  # type: ignore[arg-type]  # Dataset promises no length
        item = module.train_set[index]
        assert item["image"].shape == (3, 48, 48)
        assert item["image"].dtype == torch.uint8
        assert item["object_masks"].shape == (objects[1], 48, 48)
        assert torch.equal(item["mask"], item["object_masks"].any(0))
        numbers.add(int(item["object_masks"].flatten(1).any(1).sum()))
    assert numbers <= set(range(objects[0], objects[1] + 1))


def red(images: Tensor) -> Tensor:
    """Sure of class 1 where much of an image is bright red, of class 0 elsewhere."""
    share = (images[:, 0] > 0.45).float().mean((1, 2))
    probability = (share > 0.06).float() * 0.98 + 0.01
    return torch.stack([1 - probability, probability], 1)


def test_test_images_are_those_whose_decision_rests_on_the_object(directory: Path) -> None:
    module = data(directory)
    module.setup("test")
    assert "6 of " in module.choose_images(red, None)
    assert len(module.test_set) == 6
    scenes = module.scenes("test")
    selection = select(scenes, red, 6)
    assert selection.tried >= 6
    for index in range(selection.tried):
        scene = scenes.scene(index)
        seen, empty = (
            red(torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255)
            for image in (scene.image, scene.empty)
        )
        rests = seen.argmax(1) == 1 and empty[0, 1] < 0.1
        assert (index in selection.indices) == bool(rests)
    module.choose_images(red, 2)
    assert len(module.test_set) == 2


def colours(images: Tensor) -> Tensor:
    """Sure of class 2 where the brightest red is of a bright object, 1 of a dimmer one, 0 of none.

    Of the test objects two are brighter than 222, and two dimmer.
    """
    brightest = 255 * images[:, 0].flatten(1).quantile(0.995, 1)
    decision = (brightest > 100).long() + (brightest > 222).long()
    return one_hot(decision, 3) * 0.97 + 0.01


def test_the_class_of_an_object_is_the_decision_for_it_alone(directory: Path) -> None:
    module = data(directory, objects=(1, 3), sizes={"test": 12})
    module.setup("test")
    scenes = module.test_set
    assert "object_classes" not in scenes[0]  # no classifier was asked yet
    module.choose_images(colours, 12)
    found = []
    for place, index in enumerate(scenes.indices):
        scene = scenes.scene(index)
        alone = [torch.from_numpy(scene.alone(number).copy()) for number in range(len(scene.masks))]
        expected = [int(colours(one.permute(2, 0, 1)[None] / 255).argmax()) for one in alone]
        assert min(expected) > 0  # each object is seen
        padding = [-1] * (3 - len(expected))
        assert scenes[place]["object_classes"].tolist() == expected + padding
        found.append(expected)
    assert {len(classes) for classes in found} == {1, 2, 3}
    assert {value for classes in found for value in classes} == {1, 2}


def test_an_object_that_the_classifier_does_not_need_has_no_class(directory: Path) -> None:
    scenes = data(directory, objects=(2, 2)).scenes("test")

    def always(images: Tensor) -> Tensor:
        return torch.tensor([[0.1, 0.9]]).expand(len(images), -1)

    def unsure(images: Tensor) -> Tensor:
        return colours(images) * 0.2 + 0.25

    for predict in (always, unsure):
        assert own_classes(scenes, range(3), predict).tolist() == [[-1, -1]] * 3


def test_two_object_scenes_show_two_classes(directory: Path) -> None:
    module = data(directory)
    module.setup("test")
    module.choose_images(colours, 2)
    scenes, chosen = module.two_object_scenes(colours, 3)
    assert chosen.startswith("3 of ")
    assert "two objects have different classes" in chosen
    assert len(scenes) == 3
    assert len(module.test_set) == 2  # the other images are left as they are
    assert module.test_set.number == (1, 1)
    for item in (scenes[place] for place in range(3)):
        assert sorted(item["object_classes"].tolist()) == [1, 2]
        assert item["object_masks"].flatten(1).any(1).tolist() == [True, True]
    looked_at = int(chosen.split()[2])
    classes = own_classes(scenes, range(looked_at), colours)
    different = [i for i, (one, other) in enumerate(classes.tolist()) if one != other]
    assert scenes.indices == different


def test_two_object_scenes_that_are_not_found_are_fewer(directory: Path) -> None:
    module = data(directory)
    module.setup("test")
    scenes, chosen = module.two_object_scenes(red, 2)  # red knows one class alone
    assert len(scenes) == 0
    assert chosen.startswith("0 of ")


def test_without_a_test_portion_the_test_files_stay_unseen(directory: Path) -> None:
    module = data(directory, test_portion=None)
    assert not module.has_test_set
    module.setup("validate")
    assert "3 of " in module.choose_images(red, 3)
    assert len(module.val_set) == 3
    assert {name.partition(" ")[0] for name in map(module.val_set.name, range(3))} == {"val"}


def test_cutouts_that_are_all_too_thin_are_one_line(directory: Path, tmp_path: Path) -> None:
    cutouts = tmp_path / "thin"
    cutouts.mkdir()
    for index in range(12):
        rod = Image.new("RGBA", (60, 60))
        rod.paste((9, 9, 9, 255), (0, 0, 60, 2))
        rod.paste((9, 9, 9, 255), (0, 0, 2, 60))
        rod.save(cutouts / f"{index}.png")
    module = CutoutsData(str(cutouts), str(directory / "backgrounds"))
    with pytest.raises(ValueError, match=r"at least 15% of their box\. Found \d+ thinner ones"):
        module.setup("fit")


def test_a_classifier_that_sees_no_object_is_one_line(directory: Path) -> None:
    scenes = data(directory).scenes("test")
    with pytest.raises(ValueError, match=r"Expected 3 scenes .* Found 0 among \d+: lower data"):
        select(scenes, lambda images: torch.tensor([[1.0, 0.0]]).expand(len(images), -1), 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objects": (0, 1)}, r"data\.objects=\[LOW,HIGH\] in 1 to 3\. Found \[0, 1\]"),
        ({"objects": (2, 1)}, r"data\.objects"),
        ({"image_size": 16}, r"data\.image_size >= 32 pixels\. Found 16"),
        ({"test_portion": 4}, r"data\.test_portion in 1 to 3\. Found 4"),
        ({"sizes": {"train": 0}}, r"data\.sizes\.train >= 1 image, a whole number\. Found 0"),
        ({"sizes": {"val": 0}}, r"data\.sizes\.val >= 1"),
        ({"sizes": {"test": 8.5}}, r"data\.sizes\.test >= 1 image, a whole number\. Found 8\.5"),
        ({"sizes": {"tain": 16}}, r"data\.sizes of train, val, test\. Found tain"),
    ],
)
def test_wrong_settings(directory: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data(directory, **settings)


def test_wrong_directories(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected data\.cutouts=DIR, a directory\. Found None"):
        CutoutsData(None, str(directory / "backgrounds"))
    few = tmp_path / "cutouts"
    few.mkdir()
    cutout().save(few / "one.png")
    with pytest.raises(ValueError, match="images of enough groups"):
        CutoutsData(str(few), str(directory / "backgrounds")).setup("fit")


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_cutout_is_upright(kind: str, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    cutout((20, 40)).save(tmp_path / f"turned.{kind}", exif=turned, lossless=True)
    upright = cutout((20, 40)).transpose(Image.Transpose.ROTATE_270)
    found = load_rgba(tmp_path / f"turned.{kind}")
    assert found.size == (40, 20)
    assert found.getchannel("A").tobytes() == upright.getchannel("A").tobytes()


def test_a_cutout_of_too_many_pixels_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cutout((60, 60)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses twice as many
    with pytest.raises(ValueError, match=r"Expected a cut-out, .*huge\.png: .*3600 pixels"):
        load_rgba(tmp_path / "huge.png")


def test_a_cutout_must_be_transparent_and_visible(directory: Path, tmp_path: Path) -> None:
    for name, image in (
        ("transparency", Image.new("RGB", (9, 9))),
        ("something visible", Image.new("RGBA", (9, 9))),
    ):
        cutouts = tmp_path / name
        cutouts.mkdir()
        for index in range(12):
            image.save(cutouts / f"{index}.png")
        with pytest.raises(ValueError, match=rf"cut-out .*{name}\. Found .*\.png"):
            CutoutsData(str(cutouts), str(directory / "backgrounds")).setup("fit")
