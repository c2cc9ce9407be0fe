"""Explaining files, from the command line to what lies in the output directory."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import fields
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from saliency_vae import load_explainer, load_explanations
from saliency_vae.classifiers.builders import custom_classifier
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.data.image_finder import find_images
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.explain import explain
from saliency_vae.inference.alternatives import DRAWS
from saliency_vae.inference.image_files import BrokenImage, InputImages
from saliency_vae.inference.outputs import Outputs
from saliency_vae.inference.predict import BatchExplainer
from saliency_vae.inference.store import Store
from saliency_vae.models import Explainer, save_explainer
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.perturbations import Mean, perturb
from saliency_vae.visualization import FRACTIONS, Explanation, InputImage
from tests.faults.made import PARTS
from tests.helpers.digits import recorded_digits

pytestmark = pytest.mark.usefixtures("one_thread")

VIEWS = 2 * len(FRACTIONS)  # of each image: kept and left out


@pytest.fixture(autouse=True)
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time would go into drawing them."""
    monkeypatch.setattr("saliency_vae.visualization.panel.TILE", 32)


def any_size() -> nn.Module:
    """Network for images of any size."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 5))


def make_explainer(directory: Path, identity: ClassifierIdentity) -> Path:
    """Save an explainer with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        explainer = Explainer.from_config(ExplainerConfig(**PARTS, classifier=identity))
        head = explainer.encoder.head
        assert isinstance(head, nn.Conv2d)
        nn.init.normal_(head.weight, std=0.5)
    save_explainer(explainer, directory)
    return directory


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of an explainer, and of its classifier that takes any size and resizes nothing."""
    directory = tmp_path_factory.mktemp("own")
    weights = [own_weights(directory, seed) for seed in (0, 1)]
    identity = custom_classifier(f"{__name__}.any_size", weights[0]).identity()
    explainer = make_explainer(directory / "an explainer", identity)
    return [
        f"explainer={explainer}",
        "classifier=custom",
        f"classifier.module={__name__}.any_size",
        f"classifier.weights={weights[0]}",
    ]


def own_weights(directory: Path, seed: int) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        save_file(any_size().state_dict(), directory / f"{seed}.safetensors")
    return directory / f"{seed}.safetensors"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> list[str]:
    """Settings of an explainer that recorded its classifier: 32 pixels, cropped."""
    directory = tmp_path_factory.mktemp("digits")
    identity = recorded_digits(directory / "digits.safetensors")
    return [f"explainer={make_explainer(directory / 'explainer', identity)}"]


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def pictures(directory: Path, number: int, size: int = 24) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        picture(size, size, index).save(directory / f"{index}.png")
    return directory


Run = Callable[..., list[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process: importing anew takes most of a command's time.

    Returns the printed lines; a status other than the expected fails.
    """

    def call(*arguments: str, status: int = 0) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["explain.py", f"output_dir={tmp_path}/out", *arguments])
        capfd.readouterr()
        code: Any = 0
        try:
            explain()
        except SystemExit as exit_:
            code = exit_.code
        assert code == status
        return capfd.readouterr().out.splitlines()

    return call


Fail = Callable[..., str]


@pytest.fixture
def error_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Run the command to its one-line error."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["explain.py", f"output_dir={tmp_path}/out", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            explain()
        message = str(exit_info.value)
        assert message.startswith("error: "), message
        assert "\n" not in message
        return message

    return call


@pytest.fixture
def classified(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that any classifier was asked about."""
    sizes: list[int] = []
    forward = FrozenClassifier.forward

    def counted(self: FrozenClassifier, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(FrozenClassifier, "forward", counted)
    return sizes


def done(out: Path) -> set[str]:
    """Names of the images that have all of their files."""
    index = Store(out / "explanations").index()
    outputs = Outputs(out, panels=frozenset(index.places))
    for name in index.places:
        with Image.open(outputs.panel_file(name)) as panel:
            panel.load()
        assert outputs.done(name, index)
    assert not list(out.rglob("*.partial"))
    return set(index.places)


def test_one_file_exactly(own: list[str], run: Run, tmp_path: Path) -> None:
    """Nothing is resized: what is written is what Python returns, to the precision of float16."""
    picture(31, 45).save(tmp_path / "photo", "PNG")  # no extension, as a file may have none
    out = tmp_path / "out"
    lines = run(*own, f"images={tmp_path}/photo", "fraction=0.25", "maps=npz")
    assert lines == ["1 of 1 images explained.", str(out / "index.html")]
    images = torch.from_numpy(np.array(picture(31, 45))).permute(2, 0, 1)[None] / 255
    classifier = custom_classifier(f"{__name__}.any_size", own[3].partition("=")[2])
    with torch.inference_mode():
        posterior = load_explainer(own[0].partition("=")[2])(images.contiguous())
        kept = perturb(images, posterior.topk_mask(0.25), Mean()(images))
        left_out = perturb(images, ~posterior.topk_mask(0.25), Mean()(images))
        logits, kept_logits, left_out_logits = map(classifier, (images, kept, left_out))
    with np.load(out / "photo.npz") as arrays:
        written = load_explanations(out)["photo"]
        assert written.keys() == set(arrays)
        for key, exact in (
            ("mean", posterior.mean),
            ("stddev", posterior.stddev),
            ("inclusion_probability", posterior.inclusion_probability(0.25)),
        ):
            assert written[key].dtype == np.float32
            np.testing.assert_array_equal(written[key], exact[0].half().float())
            np.testing.assert_array_equal(arrays[key], exact[0])
        assert arrays["inclusion_probability"].sum() == pytest.approx(0.25 * 31 * 45, abs=1)
        assert arrays["estimated_confidence"] == pytest.approx(posterior.confidence.item())
        whole, kept_share, left_share = (
            float(found.softmax(-1)[0, logits.argmax()])
            for found in (logits, kept_logits, left_out_logits)
        )
        assert arrays["sufficiency"] == pytest.approx(kept_share)
        assert arrays["necessity"] == pytest.approx(whole - left_share, abs=1e-6)
        assert arrays["decision_stays"] == (kept_logits.argmax() == logits.argmax())
        assert arrays["decision_lost"] == (left_out_logits.argmax() != logits.argmax())
        assert arrays["fraction"] == 0.25
        for name, expected in (("", logits), ("kept_", kept_logits)):
            probabilities = arrays[f"{name}probabilities"]
            np.testing.assert_allclose(probabilities, expected.softmax(-1)[0], rtol=1e-5)
            best = [f"class {index}" for index in (-probabilities).argsort()[:3]]
            assert arrays[f"{name}top_classes"].tolist() == best
        assert "objective" not in arrays


def test_a_class_is_asked_about(own: list[str], run: Run, error_of: Fail, tmp_path: Path) -> None:
    picture(31, 45).save(tmp_path / "photo.png")
    asked = [f"images={tmp_path}/photo.png", "target=class 3", "fraction=0.25"]
    message = error_of(*own, *asked)  # an explainer of the image alone
    assert "Expected target=None: this explainer explains the decision" in message
    assert not (tmp_path / "out/index.html").exists()
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"class {index}" for index in range(5)))
    universal = [*own[1:], f"classifier.categories={names}"]
    run("explainer=universal", *universal, *asked)
    found = load_explanations(tmp_path / "out")["photo.png"]
    images = torch.from_numpy(np.array(picture(31, 45))).permute(2, 0, 1)[None] / 255
    classifier = custom_classifier(f"{__name__}.any_size", own[3].partition("=")[2])
    explainer = load_explainer("universal", classifier)
    mean = explainer(images.contiguous(), 3).mean[0]
    np.testing.assert_array_equal(found["mean"], mean.half().float())
    assert not torch.allclose(mean, explainer(images.contiguous(), 2).mean[0], atol=1e-2)
    assert found["target"] == "class 3"
    assert found["on_image"] == pytest.approx(classifier(images).softmax(-1)[0, 3].item())
    assert "class 3 (" in (tmp_path / "out/index.html").read_text()


def test_a_directory_of_odd_files(digits: list[str], run: Run, tmp_path: Path) -> None:
    root = tmp_path / "im[a]ges, 'of' mine"
    names = [
        "a b=1.png",
        "deep/er/[x] {y}.png",
        "<img src=x onerror=alert(1)>&quot;.png",
        "ünï 文.png",
        "two\nlines.png",
        "caf\udce9.png",
        "${oc.env:HOME}.png",
    ]
    for index, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(32, 32, index).save(root / name)
    (root / "notes.txt").write_text("no image")
    (root / "deep/broken [bold]caf\udce9.jpg").write_text("no image")
    lines = run(*digits, f"images={root}", status=1)
    assert done(tmp_path / "out") == set(names)
    assert lines[0] == "7 of 8 images explained."
    assert lines[1] == f"1 could not be explained (all in {tmp_path}/out/broken.txt):"
    assert lines[2].startswith("  deep/broken [bold]caf\ufffd.jpg: cannot identify image file")
    assert lines[3:] == [str(tmp_path / "out/index.html")]
    assert (tmp_path / "out/broken.txt").read_text(encoding="utf-8") == f"{lines[2].strip()}\n"


def test_images_of_every_kind(digits: list[str], run: Run, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    rotated = Image.Exif()
    rotated[0x0112] = 6
    picture(40, 30).convert("L").save(root / "grey.png")
    picture(40, 30).convert("CMYK").save(root / "cmyk.jpg")
    picture(40, 30).convert("RGBA").save(root / "rgba.png")
    picture(40, 30).save(root / "rotated.jpg", exif=rotated)
    picture(2, 900).save(root / "wide.png")
    picture(500, 1).save(root / "tall.png")
    picture(1, 1).save(root / "pixel.png")
    picture(700, 900).save(root / "large.png")
    run(*digits, f"images={root}", "batch_size=3")
    files = {path.name: load_rgb(path) for path in root.iterdir()}
    assert done(tmp_path / "out") == files.keys()
    for name, image in files.items():
        arrays = load_explanations(tmp_path / "out")[f"{name}"]
        for key in ("mean", "stddev", "inclusion_probability"):
            assert arrays[key].shape == (image.height, image.width), (name, key)
        assert np.nanmin(arrays["inclusion_probability"]) >= 0
        assert np.nanmax(arrays["inclusion_probability"]) <= 1


def test_maps_lie_where_the_classifier_looked(digits: list[str], run: Run, tmp_path: Path) -> None:
    picture(64, 128).save(tmp_path / "wide.png")
    run(*digits, f"images={tmp_path}/wide.png")
    arrays = load_explanations(tmp_path / "out")["wide.png"]
    seen = np.zeros((64, 128), dtype=bool)
    seen[:, 32:96] = True
    for key in ("mean", "stddev", "inclusion_probability"):
        np.testing.assert_array_equal(np.isfinite(arrays[key]), seen)
    assert np.nansum(arrays["inclusion_probability"]) == pytest.approx(0.1 * 64 * 64, rel=0.1)
    mean = arrays["mean"][:, 32:96]
    image = load_rgb(tmp_path / "wide.png").resize((64, 32), Image.Resampling.BILINEAR)
    images = torch.from_numpy(np.array(image)[None, :, 16:48]).permute(0, 3, 1, 2) / 255
    seen_mean = load_explainer(digits[0].partition("=")[2])(images).mean
    twice = torch.nn.functional.interpolate(seen_mean[None], scale_factor=2.0, mode="bilinear")
    np.testing.assert_allclose(mean, twice[0, 0], rtol=1e-4, atol=1e-4)


def test_a_rerun_skips_what_is_done(
    own: list[str], run: Run, tmp_path: Path, classified: list[int]
) -> None:
    images = pictures(tmp_path / "images", 7)
    out = tmp_path / "out"
    arguments = [*own, f"images={images}", "batch_size=4"]
    run(*arguments)
    assert classified == [4, 16, 16, 16, 8, 3, 16, 16, 10]  # images, and views, 16 at once
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    classified.clear()
    assert run(*arguments) == [
        "0 of 7 images explained, 7 had been explained before.",
        str(out / "index.html"),
    ]
    assert classified == []
    assert {path: path.read_bytes() for path in before} == before

    # An interrupted run leaves whole batches; somebody may remove single files.
    Store(out / "explanations").forget(["1.png", "5.png"])
    (out / "3.png.panel.jpg").unlink()
    (out / "6.png.panel.jpg.partial").write_bytes(b"half")
    (out / "6.png.panel.jpg").unlink()
    assert run(*arguments)[0] == (
        "2 of 7 images explained, 5 had been explained before (2 of them drawn now)."
    )
    assert sum(classified) == (1 + VIEWS) * 2
    assert done(out) == {f"{index}.png" for index in range(7)}

    classified.clear()
    assert run(*arguments, "overwrite=true")[0] == "7 of 7 images explained."
    assert sum(classified) == (1 + VIEWS) * 7


def test_an_interrupted_run_goes_on(
    own: list[str],
    run: Run,
    tmp_path: Path,
    classified: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = pictures(tmp_path / "images", 6)
    arguments = [*own, f"images={images}", "batch_size=2"]
    run(*arguments, "fraction=0.2")
    save = Outputs.save
    saved: list[str] = []

    def interrupted(
        self: Outputs, explanations: Sequence[Explanation], broken: Sequence[BrokenImage]
    ) -> list[BrokenImage]:
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.extend(explanation.source.name for explanation in explanations)
        return save(self, explanations, broken)

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "save", interrupted)
        patch.setattr(sys, "stderr", said := StringIO())
        assert run(*arguments, "overwrite=true", status=128 + signal.SIGINT) == []
    assert "the same command without overwrite=true goes on." in said.getvalue()
    classified.clear()
    # What the interrupted run had not reached is not taken for explained with the new settings.
    assert run(*arguments)[0] == "2 of 6 images explained, 4 had been explained before."
    for index in range(6):
        arrays = load_explanations(tmp_path / "out")[f"{index}.png"]
        assert arrays["fraction"] == 0.1


def test_overwriting_some_with_other_settings_forgets_the_rest(
    own: list[str], run: Run, tmp_path: Path
) -> None:
    images = pictures(tmp_path / "images", 3)
    run(*own, f"images={images}", "fraction=0.2")
    run(*own, f"images={images}/1.png", "overwrite=true")
    assert run(*own, f"images={images}")[0].startswith("2 of 3 images explained, 1 had")
    run(*own, f"images={images}/1.png", "overwrite=true")  # with the same, nothing else
    assert run(*own, f"images={images}")[0].startswith("0 of 3 images explained, 3 had")


def test_what_is_overwritten_leaves_no_picture_of_before(
    own: list[str], run: Run, tmp_path: Path
) -> None:
    images, out = pictures(tmp_path / "images", 2), tmp_path / "out"
    arguments = [*own, f"images={images}"]
    run(*arguments, "fraction=0.2", "maps=npz", "panels=all")
    panel = (out / "0.png.panel.jpg").read_bytes()
    run(*arguments, "overwrite=true", "panels=none", "gallery=false")
    assert not [*out.glob("*.npz"), *out.glob("*.jpg"), *out.glob("*.html")]
    run(*arguments, "maps=npz", "panels=all")
    assert (out / "0.png.panel.jpg").read_bytes() != panel
    assert np.load(out / "0.png.npz")["fraction"] == 0.1
    run(f"images={images}/1.png", *own, "overwrite=true", "panels=none", "gallery=false")
    assert {path.name for path in out.glob("*.jpg")} == {"0.png.panel.jpg"}


def test_other_settings_are_not_mixed_in(
    own: list[str], run: Run, error_of: Fail, tmp_path: Path
) -> None:
    images, other = pictures(tmp_path / "images", 1), pictures(tmp_path / "other", 1)
    run(*own, f"images={images}")
    explainer = load_explainer(own[0].partition("=")[2])
    explainer.record(beta=0.2)
    save_explainer(explainer, other)
    (written,) = (tmp_path / "out/explanations").glob("*.safetensors")
    before = written.read_bytes()
    for overrides, named in (
        (["fraction=0.2"], "another fraction:"),
        (["seed=1", "refine_steps=1"], "another refine_steps, seed:"),
        (["classifier.output=sigmoid", "force=true"], "another classifier:"),
        (["classifier.resize_size=20", "force=true"], "another preprocessing:"),
        (["classifier.categories=[a,b,c]"], "another categories:"),
        ([f"images={other}"], "another images:"),
        ([f"explainer={other}"], "another explainer:"),
    ):
        message = error_of(*own, f"images={images}", *overrides)
        assert named in message
        assert message.endswith("overwrite=true, which deletes its 1 explanations.")
    assert written.read_bytes() == before
    run(*own, f"images={images}", f"explainer={other}", "overwrite=true")
    assert done(tmp_path / "out") == {"0.png"}
    assert "another explainer:" in error_of(*own, f"images={images}")


def test_a_mistake_leaves_nothing_in_the_way(
    own: list[str], run: Run, error_of: Fail, tmp_path: Path
) -> None:
    images = pictures(tmp_path / "images", 1)
    wrong = ["classifier.resize_size=2000000", "force=true"]
    assert "could not be" in "\n".join(run(*own, f"images={images}", *wrong, status=1))
    assert run(*own, f"images={images}")[0] == "1 of 1 images explained."
    assert "another fraction:" in error_of(*own, f"images={images}", "fraction=0.2")


def test_the_gallery_holds_all_that_was_explained(own: list[str], run: Run, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 3)
    run(*own, f"images={images}")
    assert run(*own, f"images={images}/1.png")[0].startswith("0 of 1 images")
    page = (tmp_path / "out/index.html").read_text()
    entries = [json.loads(text) for text in re.findall(r'application/json">(.*?)</script>', page)]
    assert sorted(entry["name"] for entry in entries) == ["0.png", "1.png", "2.png"]
    for entry in entries:
        assert (tmp_path / "out" / entry["panel"]).is_file()
        assert (tmp_path / "out" / entry["file"]).samefile(images / entry["name"])
        for picture in ("image", "whole"):
            assert base64.b64decode(entry[picture]).startswith(b"\xff\xd8")
        assert 0 < entry["sufficiency"] <= 1


def test_labels_may_be_given_later(own: list[str], run: Run, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 2)
    (images / "2.png").write_bytes(b"no image")
    labels = tmp_path / "labels.csv"
    labels.write_text("0.png,3\n1.png,4\n9.png,4\n")
    run(*own, f"images={images}", "panels=none", status=1)
    again = run(*own, f"images={images}", "panels=none", f"labels={labels}", status=1)
    assert again[0].startswith("0 of 3 images explained")
    assert f"1 of 3 names in {labels} match no image: 9.png, for example." in again
    page = (tmp_path / "out/index.html").read_text()
    entries = [json.loads(text) for text in re.findall(r'application/json">(.*?)</script>', page)]
    assert {entry["name"]: entry["label"] for entry in entries} == {
        "0.png": "class 3",
        "1.png": "class 4",
    }
    assert "<li>2.png: cannot identify image file" in page


def entries_of(page: Path) -> dict[str, Any]:
    """Entries of a gallery by the names of their images."""
    texts = re.findall(r'application/json">(.*?)</script>', page.read_text())
    return {entry["name"]: entry for entry in map(json.loads, texts)}


@pytest.mark.parametrize("maps", ["store", "npz"])
def test_a_gallery_may_be_asked_for_later(
    maps: str, own: list[str], run: Run, tmp_path: Path, classified: list[int]
) -> None:
    """It is drawn of what is stored; what has not been measured is missing in it."""
    images = pictures(tmp_path / "images", 3)
    (images / "3.png").write_bytes(b"no image")
    arguments = [*own, f"images={images}", f"maps={maps}", "panels=none", "samples=1"]
    run(*arguments, f"output_dir={tmp_path}/at once", status=1)
    run(*arguments, "gallery=false", status=1)
    picture(24, 24, seed=9).save(images / "1.png")  # another image, which must be explained
    classified.clear()
    lines = run(*arguments, status=1)
    assert lines[0] == "1 of 4 images explained, 2 had been explained before (2 of them drawn now)."
    assert sum(classified) == 1 + VIEWS + DRAWS + 2
    drawn = entries_of(tmp_path / "out/index.html")
    expected = entries_of(tmp_path / "at once/index.html")
    shares = [fraction for fraction, *_ in expected["0.png"]["curve"]]
    for name in ("0.png", "2.png"):
        curve = [row for row in expected[name]["curve"] if maps == "npz" or row[0] == 0.1]
        np.testing.assert_allclose(drawn[name].pop("curve"), curve, atol=1e-5)
        assert drawn[name].keys() == expected[name].keys() - {"curve"}
        for kind in ("rank", "mean", "stddev", "inclusion", "sample 1"):
            one, other = (
                np.asarray(Image.open(BytesIO(base64.b64decode(found[name]["maps"][kind]))), float)
                for found in (drawn, expected)
            )
            assert abs(one - other).max() <= 4, kind  # of 255: maps are stored as float16
    assert [fraction for fraction, *_ in drawn["1.png"]["curve"]] == shares
    classified.clear()
    assert run(*arguments, status=1)[0] == "0 of 4 images explained, 3 had been explained before."
    assert classified == []


@pytest.mark.parametrize("extra", [[], ["gallery=false"]], ids=["gallery", "no gallery"])
def test_panels_may_be_asked_for_later(
    extra: list[str], digits: list[str], run: Run, tmp_path: Path, classified: list[int]
) -> None:
    """They are drawn of what is stored, as they would have been drawn at first."""
    images = pictures(tmp_path / "images", 3, size=48)
    picture(40, 60).save(images / f"{'n' * 240}.png")
    arguments = [*digits, f"images={images}", "samples=2", "fraction=0.25", *extra]
    run(*arguments, f"output_dir={tmp_path}/at once", status=1)
    run(*arguments, "panels=none")
    picture(48, 48, seed=9).save(images / "1.png")  # another image, which must be explained
    classified.clear()
    lines = run(*arguments, status=1)
    assert lines[0] == "1 of 4 images explained, 2 had been explained before (2 of them drawn now)."
    assert "File name too long" in lines[2]
    assert sum(classified) == 2 * (1 + 2 * DRAWS + 2 * (3 + (0 if extra else 7)))
    out, at_once = tmp_path / "out", tmp_path / "at once"
    for name in ("0.png", "2.png"):
        drawn, expected = (
            np.asarray(Image.open(directory / f"{name}.panel.jpg"), dtype=float)
            for directory in (out, at_once)
        )
        assert drawn.shape == expected.shape
        assert abs(drawn - expected).mean() < 0.5  # of 255: maps are stored as float16
    if not extra:
        page = (out / "index.html").read_text()
        assert page.count('.png.panel.jpg"') == 3


def test_the_output_directory_may_lie_among_the_images(
    own: list[str], run: Run, tmp_path: Path, classified: list[int]
) -> None:
    images = pictures(tmp_path / "images", 2)
    picture(24, 24).save(images / "0.panel.jpg")  # somebody's own
    for out in (images / "out", images, images / "out 2"):
        classified.clear()
        arguments = [*own, f"images={images}", f"output_dir={out}"]
        assert run(*arguments)[0] == "3 of 3 images explained."
        assert sum(classified) == (1 + VIEWS) * 3
        assert run(*arguments)[0].startswith("0 of 3 images")


def test_all_files_broken(own: list[str], run: Run, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(25):
        (tmp_path / f"images/{index:02}.jpg").touch()
    lines = run(*own, f"images={tmp_path}/images", status=1)
    assert lines[0] == "0 of 25 images explained."
    assert len(lines) == 2 + 20
    assert len((tmp_path / "out/broken.txt").read_text().splitlines()) == 25
    pictures(tmp_path / "images", 1)
    for index in range(25):
        (tmp_path / f"images/{index:02}.jpg").unlink()
    assert run(*own, f"images={tmp_path}/images")[0] == "1 of 1 images explained."
    assert not (tmp_path / "out/broken.txt").exists()


def test_what_fails_later_is_reported_too(own: list[str], run: Run, tmp_path: Path) -> None:
    """Too small for the encoder; a name too long for the name of a panel."""
    images = pictures(tmp_path / "images", 2)
    picture(3, 5).save(images / "small.png")
    picture(24, 24).save(images / f"{'n' * 240}.png")
    lines = run(*own, f"images={images}", status=1)
    assert lines[0] == "2 of 4 images explained."
    assert any(re.search(r"small\.png: Expected .*16", line) for line in lines)
    assert any("too long" in line for line in lines)
    assert done(tmp_path / "out") == {"0.png", "1.png"}


def test_refinement_lowers_the_objective(own: list[str], run: Run, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 3)
    lines = run(*own, f"images={images}", "refine_steps=15")
    found = re.fullmatch(
        r"Refined in 15 steps: objective ([\d.]+) -> ([\d.]+) per image\.", lines[1]
    )
    assert found
    before, after = (float(number) for number in found.groups())
    assert after < before
    objectives = []
    for index in range(3):
        arrays = load_explanations(tmp_path / "out")[f"{index}.png"]
        objectives.append(arrays["objective"])
        refined = arrays["mean"]
    assert np.mean(objectives, axis=0) == pytest.approx([before, after], abs=1e-4)
    run(*own, f"images={images}", "overwrite=true")
    arrays = load_explanations(tmp_path / "out")["2.png"]
    assert np.abs(arrays["mean"] - refined).max() > 0.01


def test_another_classifier(own: list[str], run: Run, error_of: Fail, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 1)
    weights = own[3].replace("/0.safetensors", "/1.safetensors")
    message = error_of(*own[:3], weights, f"images={images}")
    for path in (own[3], weights):
        identity = custom_classifier(f"{__name__}.any_size", path.partition("=")[2]).identity()
        assert str(identity) in message
    assert not (tmp_path / "out").exists()
    assert run(*own[:3], weights, f"images={images}", "force=true")[0].startswith("1 of 1")
    assert "1.safetensors" in (tmp_path / "out/index.html").read_text()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("images=/nowhere/*.jpg", "Nothing found: /nowhere/*.jpg"),
        ("images={tmp}/empty", "Expected image files"),
        ("explainer=/nowhere", "Expected /nowhere to be an explainer's directory"),
        ("fraction=0", "0 < fraction <= 1"),
        ("fraction=nan", "fraction to be a finite number"),
        ("fraction=many", "fraction"),
        ("batch_size=0", "batch_size >= 1"),
        ("refine_steps=-1", "refine_steps >= 0"),
        ("num_workers=-1", "num_workers >= 0"),
        ("maps=zarr", "Expected maps among store, npz. Found zarr."),
        ("panels=some", "Expected panels=all, none or a number. Found some."),
        ("partition=3/2", "Expected partition=K/N with 1 <= K <= N, such as 2/4. Found 3/2."),
        ("devices=0", "devices >= 1"),
        ("device=warp", "Found warp"),
        ("device=meta", "Found meta"),
        ("output_dir={tmp}/file", "file"),
        ("overwite=true", "Did you mean overwrite?"),
        ("classifier=cifar", "torchvision"),
        ("~classifier", "classifier"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(
    override: str, expected: str, own: list[str], error_of: Fail, tmp_path: Path
) -> None:
    pictures(tmp_path / "images", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    if override == "~classifier":  # recorded, but not how to build it
        arguments = [own[0], f"images={tmp_path}/images"]
    else:
        arguments = [*own, f"images={tmp_path}/images", override.format(tmp=tmp_path)]
    assert expected in error_of(*arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["images", "output_dir"])
def test_a_missing_setting_is_named(
    name: str, own: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = [*own, f"images={tmp_path}", f"output_dir={tmp_path}/out"]
    given = [setting for setting in settings if not setting.startswith(f"{name}=")]
    monkeypatch.setattr(sys, "argv", ["explain.py", *given])
    with pytest.raises(SystemExit, match=rf"^error: .*{name}"):
        explain()


def test_memory_holds_two_batches_and_no_more(
    own: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(tmp_path / "images", 300, size=16)
    (images / "broken.png").touch()
    living: weakref.WeakSet[InputImage | Explanation] = weakref.WeakSet()
    most = 0
    read, save = InputImages.__getitem__, Outputs.save

    def watched_read(self: InputImages, index: int) -> InputImage | BrokenImage:
        nonlocal most
        image = read(self, index)
        if isinstance(image, InputImage):
            living.add(image)
        most = max(most, len(living))
        return image

    def watched_save(
        self: Outputs, explanations: Sequence[Explanation], broken: Sequence[BrokenImage]
    ) -> list[BrokenImage]:
        nonlocal most
        living.update(explanations)
        most = max(most, len(living))
        return save(self, explanations, broken)

    monkeypatch.setattr(InputImages, "__getitem__", watched_read)
    monkeypatch.setattr(Outputs, "save", watched_save)
    monkeypatch.setattr(
        "saliency_vae.inference.outputs.draw_panel", lambda _: Image.new("RGB", (1, 1))
    )
    run(*own, f"images={images}", "batch_size=16", status=1)
    assert len(done(tmp_path / "out")) == 300
    assert 16 < most <= 3 * 16


def test_a_full_accelerator_is_one_error(
    own: list[str], error_of: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(BatchExplainer, "__call__", full)
    message = error_of(*own, f"images={pictures(tmp_path / 'images', 1)}")
    assert "batch_size < 32" in message


def test_from_the_command_line(digits: list[str], tmp_path: Path) -> None:
    """As users do: another process, reading processes, a pattern, a progress bar, a status."""
    images = pictures(tmp_path / "my images", 3)
    (images / "3.png").write_text("no image")
    command = [sys.executable, "-m", "saliency_vae.explain", *digits, "num_workers=2"]
    command += [f"images={images}/*.png", f"output_dir={tmp_path}/out"]
    before = set(Path.cwd().iterdir())
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 1, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0] == "3 of 4 images explained."
    assert lines[-1] == f"{tmp_path}/out/index.html"
    assert "Explaining: 100%" in ended.stderr
    assert "4/4" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert done(tmp_path / "out") == {"0.png", "1.png", "2.png"}
    assert set(Path.cwd().iterdir()) == before  # nothing is left where one stands


@pytest.mark.parametrize(
    ("processes", "policy"),
    [("devices=1", None), ("num_workers=2", "PASSIVE"), ("devices=2", "PASSIVE")],
)
def test_idle_threads_leave_the_cores_to_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: str, policy: str | None
) -> None:
    found: list[str | None] = []

    def look(config: ExplainConfig) -> SimpleNamespace:
        found.append(os.environ.get("OMP_WAIT_POLICY"))
        return SimpleNamespace(broken=[])

    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that it is restored
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr("saliency_vae.inference.explain_images", look)
    settings = ["explainer=universal", "images=x", processes]
    monkeypatch.setattr(sys, "argv", ["explain.py", f"output_dir={tmp_path}", *settings])
    explain()
    assert found == [policy]


def test_help_says_what_each_setting_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["explain.py", "--help", "fraction=0.3"])
    with pytest.raises(SystemExit) as exit_info:
        explain()
    assert exit_info.value.code == 0
    text = capfd.readouterr().out
    assert "python -m saliency_vae.explain explainer=DIR images=" in text
    for setting in fields(ExplainConfig):
        assert re.search(rf"^{setting.name} +\S", text, re.MULTILINE), setting.name
    assert "\nfraction: 0.3\n" in text


def test_find_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a.png", "b.txt", "sub/c.JPG", "sub/deep/d.png", "[x]/e.png", ".hidden.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(pattern: str) -> tuple[str, list[str]]:
        root, files = find_images(pattern)
        assert files == sorted(files)
        assert all(file.is_relative_to(root) for file in files)
        return str(root), [os.path.relpath(file, tmp_path) for file in files]

    for base in (f"{tmp_path}/", ""):
        monkeypatch.chdir(tmp_path)
        root = base.removesuffix("/") or "."
        assert found(f"{base}b.txt") == (root, ["b.txt"])
        assert found(f"{base}*.png") == (root, ["a.png"])
        assert found(f"{base}*") == (root, ["a.png", "b.txt"])
        assert found(f"{base}**/*.png") == (root, ["[x]/e.png", "a.png", "sub/deep/d.png"])
        # The directory is the pattern's, whatever it happens to match.
        assert found(f"{base}*/deep/?.png") == (root, ["sub/deep/d.png"])
        assert found(f"{base}sub/*.JPG") == (str(Path(root, "sub")), ["sub/c.JPG"])
        assert found(f"{base}[x]") == (str(Path(root, "[x]")), ["[x]/e.png"])
        for nothing in ("*.gif", "missing.png", "missing"):
            with pytest.raises(ValueError, match=r"^Expected images=.*Nothing found"):
                find_images(f"{base}{nothing}")


def test_samples_are_the_same_whatever_the_batch(own: list[str], run: Run, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 3)
    drawn = []
    for batch_size in (1, 3):
        out = tmp_path / f"out{batch_size}"
        arguments = [*own, f"images={images}", f"output_dir={out}", "samples=6"]
        run(*arguments, f"batch_size={batch_size}")
        maps = load_explanations(out)["1.png"]
        drawn.append(maps["samples"])
        stddev = maps["stddev"]
        with Image.open(out / "1.png.panel.jpg") as panel:
            with_samples = panel.height
    assert drawn[0].shape == (6, 24, 24)
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=1e-4, atol=1e-5)
    assert 0.5 < drawn[0].std(0).mean() / stddev.mean() < 1.5
    run(*own, f"images={images}", f"output_dir={tmp_path}/none")
    with Image.open(tmp_path / "none/1.png.panel.jpg") as panel:
        assert with_samples == 3 * panel.height  # six samples: their maps, and their kept views
    maps = load_explanations(tmp_path / "none")["1.png"]
    assert "samples" not in maps


def test_a_sweep_whose_jobs_fail_ends_with_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter((1, 0))

    def run(command: list[str], check: bool) -> SimpleNamespace:
        return SimpleNamespace(returncode=next(codes))

    monkeypatch.setattr("saliency_vae.cli.sweep.subprocess.run", run)
    monkeypatch.chdir(tmp_path)
    given = ("-m", "images=.", "explainer=.", "fraction=0.1,0.2", "output_dir=out")
    monkeypatch.setattr(sys, "argv", ["explain.py", *given])
    with pytest.raises(SystemExit, match=r"error: jobs of the sweep failed: \[0\]"):
        explain()
