"""Scenes: objects are pasted where their masks are, and nowhere else."""

import numpy as np
import pytest
from PIL import Image

from saliency_vae.data.scenes import Scene, compose
from tests.helpers.made_cutouts import cutout, photograph


def scene(number: int = 1, seed: int = 0, size: int = 64) -> Scene:
    objects = [cutout(colour=250 - 20 * index) for index in range(number)]
    return compose(objects, photograph(), image_size=size, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_the_image_differs_from_the_photograph_at_the_objects_alone(number: int, seed: int) -> None:
    found = scene(number, seed)
    changed = (found.image.astype(int) - found.empty).max(-1)
    assert found.masks.shape == (number, 64, 64)
    assert (changed[found.masks.any(0)] > 40).all()
    near = Image.fromarray(np.asarray(found.masks.any(0))).resize((64, 64))
    rows, columns = np.nonzero(changed > 0)
    marked = np.argwhere(np.asarray(near))
    for row, column in zip(rows, columns, strict=True):  # blended edges reach a few pixels
        assert np.abs(marked - (row, column)).max(1).min() <= 4


@pytest.mark.parametrize("seed", range(10))
def test_every_pixel_belongs_to_one_object_which_is_seen_there(seed: int) -> None:
    found = scene(3, seed)
    assert found.masks.sum(0).max() <= 1
    assert (found.masks.sum((1, 2)) > 30).all()
    for index, mask in enumerate(found.masks):
        inner = mask & np.roll(mask, 2, 0) & np.roll(mask, -2, 0) & np.roll(mask, 2, 1)
        red = found.image[inner & np.roll(mask, -2, 1)][:, 0]
        assert abs(np.median(red) - (250 - 20 * index)) < 8


def test_sizes_places_and_crops_vary() -> None:
    found = [scene(seed=seed) for seed in range(40)]
    areas = [one.masks.sum() for one in found]
    centres = [np.argwhere(one.masks[0]).mean(0) for one in found]
    assert max(areas) > 2 * min(areas)
    assert np.ptp(centres, 0).min() > 15
    assert len({one.empty.tobytes() for one in found}) == 40


def test_edges_are_blended() -> None:
    found = scene()
    alpha = (found.image[..., 0].astype(float) - found.empty[..., 0]) / (250 - found.empty[..., 0])
    assert ((alpha > 0.15) & (alpha < 0.85)).sum() > 10


@pytest.mark.parametrize("seed", range(5))
def test_an_object_alone_is_where_it_is_in_the_scene(seed: int) -> None:
    found = scene(3, seed)
    for index in range(3):
        alone = found.alone(index)
        others = np.delete(found.masks, index, 0).any(0)
        assert (alone[found.masks[index]] == found.image[found.masks[index]]).mean() > 0.9
        changed = (alone.astype(int) - found.empty).max(-1) > 40
        assert (found.masks[index] <= changed).all()
        assert (changed & others).sum() <= 0.5 * others.sum()  # no more than they may overlap
    assert not np.array_equal(found.alone(0), found.alone(1))


def test_the_one_object_of_a_scene_is_alone() -> None:
    found = scene()
    assert np.array_equal(found.alone(0), found.image)
