"""Explanations on disk: what is read is what was written, whatever else is in the store."""

import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saliency_vae import load_explanations
from saliency_vae.data import Preprocessing
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.store import Index, Store, StoredExplanation, entry_at

CROPPED = Preprocessing(crop_size=(16, 16))


def explanation(name: str, seed: int = 0, scale: float = 1.0) -> StoredExplanation:
    maps = scale * np.random.default_rng(seed).random((4, 16, 16), dtype=np.float32)
    keys = ("mean", "stddev", "inclusion_probability")
    return StoredExplanation(
        name=name,
        size=(20, 16),
        preprocessing=CROPPED,
        values=dict(zip(keys, maps, strict=False))
        | {"samples": maps[3:], "probabilities": maps[0, 0], "top_classes": ["ä", "b"]},
        entry=json.dumps({"name": name}),
        sufficiency=seed / 10,
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "explanations")
    names = ["a.png", "caf\udce9.png", "deep/[x] 文.png"]
    store.write([explanation(name, seed) for seed, name in enumerate(names)], [])
    found = load_explanations(tmp_path)
    assert list(found) == sorted(names)
    for seed, name in enumerate(names):
        exact, read = explanation(name, seed).values, found[name]
        assert read.keys() == exact.keys()
        for key in ("mean", "stddev", "inclusion_probability"):
            np.testing.assert_array_equal(read[key][2:18], exact[key].astype(np.float16))
            assert np.isnan(read[key][[0, 1, 18, 19]]).all()
        assert read["samples"].shape == (1, 20, 16)
        np.testing.assert_array_equal(read["probabilities"], exact["probabilities"])
        assert read["top_classes"] == ["ä", "b"]
        place = store.index().places[name]
        assert json.loads(entry_at(place)) == {"name": name}
        assert place.sufficiency == seed / 10


def test_values_beyond_float16_are_kept(tmp_path: Path) -> None:
    Store(tmp_path / "explanations").write([explanation("a", scale=1e6)], [])
    np.testing.assert_array_equal(
        load_explanations(tmp_path)["a"]["mean"][2:18], explanation("a", scale=1e6).values["mean"]
    )


@pytest.mark.parametrize(
    ("offset", "scale"), [(0, 1e-6), (0, 1e-7), (0, 1e-4), (5, 1e-3), (100, 0.05)]
)
def test_values_that_float16_does_not_tell_apart_are_kept(
    offset: float, scale: float, tmp_path: Path
) -> None:
    exact = explanation("a")
    maps = np.float32(offset) + np.float32(scale) * exact.values["mean"]
    values = {**exact.values, "mean": maps, "stddev": maps, "samples": maps[None]}
    Store(tmp_path / "explanations").write([replace(exact, values=values)], [])
    found = load_explanations(tmp_path)["a"]
    for read in (found["mean"], found["stddev"], found["samples"][0]):
        np.testing.assert_array_equal(read[2:18], maps)


def test_ordinary_maps_take_two_bytes_a_value(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for scale in (0.01, 1.0, 1e3):
        store.write([explanation("a", scale=scale)], [])
        values = store.read(store.index().places["a"]).values
        assert {values[key].dtype for key in ("mean", "stddev", "samples")} == {np.dtype("float16")}


def test_what_was_written_last_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write([explanation("a", 1)], [BrokenImage("b", "torn")])
    store.write([explanation("b", 2)], [])
    index = store.index()
    assert index.places["b"].sufficiency == 0.2
    assert index.broken == {}
    store.write([explanation("a", 3)], [BrokenImage("b", "torn")])  # the same images, so the file
    assert len(list(tmp_path.iterdir())) == 2
    assert store.index().places["a"].sufficiency == 0.3


def test_forgetting_some_leaves_the_others(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write([explanation("a", 1), explanation("b", 2)], [BrokenImage("c", "torn")])
    store.write([explanation("d", 3)], [])
    store.write([explanation("b", 4)], [])
    store.forget(["a", "d"])
    index = store.index()
    assert index.places.keys() == {"b"}
    assert index.places["b"].sufficiency == 0.4
    assert index.broken == {"c": BrokenImage("c", "torn")}
    assert len(list(tmp_path.iterdir())) == 2
    store.write([explanation("a", 1), explanation("b", 2)], [])
    store.write([explanation("b", 3)], [])
    store.forget(["b"])
    assert store.index().places.keys() == {"a"}  # and no earlier explanation of b
    store.clear()
    assert list(tmp_path.iterdir()) == []


def aged(file: Path, seconds: int) -> Path:
    """Let a file be written at a time, whatever the clock of the file system tells apart."""
    os.utime(file, (seconds, seconds))
    return file


def test_an_image_that_broke_later_is_not_explained(tmp_path: Path) -> None:
    store, gone = Store(tmp_path), BrokenImage("a", "gone")
    aged(store.write([explanation("a", 1), explanation("b", 2)], []), 1)
    newer = aged(store.write([], [gone]), 2)
    assert store.index().places.keys() == {"b"}
    assert store.index().broken == {"a": gone}
    store.forget(["b"])  # rewrites the older file, or removes it
    assert store.index() == Index({}, {"a": gone})
    assert list(tmp_path.iterdir()) == [newer]
    aged(store.write([explanation("a", 1)], []), 3)
    assert store.index().places.keys() == {"a"}
    assert store.index().broken == {}


def test_forgetting_keeps_the_order_of_what_was_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    aged(store.write([explanation("a", 1), explanation("b", 1)], [BrokenImage("c", "torn")]), 1)
    aged(store.write([explanation("c", 2), explanation("e", 2)], []), 2)
    aged(store.write([], [BrokenImage("c", "gone")]), 3)
    aged(store.write([explanation("d", 3)], []), 4)
    store.forget(["a"])
    assert store.index().places.keys() == {"b", "d", "e"}
    assert store.index().broken == {"c": BrokenImage("c", "gone")}
    assert sorted(int(file.stat().st_mtime) for file in tmp_path.iterdir()) == [1, 2, 3, 4]
    store.forget(["d", "e"])
    assert store.index().places.keys() == {"b"}
    assert store.index().broken == {"c": BrokenImage("c", "gone")}


def test_what_others_write_meanwhile_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = Store(tmp_path), Store.index

    def index(self: Store) -> Index:
        found = read(self)
        store.write([explanation("other")], [BrokenImage("another", "torn")])
        return found

    store.write([explanation("a")], [])
    monkeypatch.setattr(Store, "index", index)
    store.forget(["a"])
    assert read(store).places.keys() == {"other"}
    assert read(store).broken.keys() == {"another"}


@pytest.mark.parametrize("content", [b"", b"junk of no use", struct.pack("<Q", 2) + b"{}"])
def test_another_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "explanations").mkdir()
    (tmp_path / "explanations/mine.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.safetensors to hold explanations"):
        load_explanations(tmp_path)


def test_another_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected the output_dir of"):
        load_explanations(tmp_path)
