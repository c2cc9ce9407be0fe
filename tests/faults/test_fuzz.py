"""Whatever a setting, an explainer's file, an image or a classifier holds: one line, or it works.

Hypothesis chooses the cases: about 200, the same ones each time, in ``make test``; ``make fuzz``
runs ten times as many new ones. Each case runs in this process.
"""

import copy
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier, check_classifier
from saliency_vae.cli.errors import one_line_errors
from saliency_vae.cli.schemas import (
    EvaluateConfig,
    ExplainConfig,
    ExportConfig,
    TrainConfig,
    register_schemas,
)
from saliency_vae.cli.validation import config_dir, resolve
from saliency_vae.data import Preprocessing
from saliency_vae.exporting.formats import find_format
from saliency_vae.exporting.pipeline import image_size
from saliency_vae.inference.image_files import BrokenImage, InputImages
from saliency_vae.models import load_explainer
from saliency_vae.training import settings as training_settings
from saliency_vae.training.run import prepare
from saliency_vae.visualization import InputImage
from tests.faults.made import DIGITS, TRAIN, make_explainer
from tests.models.test_explainer import random_images

MORE = int(os.environ.get("FUZZ", "0"))  # times as many cases, other ones each time


def cases(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return settings(
        max_examples=number * max(MORE, 1),
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def ended(function: Callable[[], Any]) -> str | None:
    """The one line that a command would end with; None if it works. Other errors are raised."""
    try:
        with one_line_errors("fuzz"):
            function()
    except SystemExit as end:
        message = str(end.code)
        assert message.startswith("error: ")
        assert len(message) > len("error: x")
        assert "\n" not in message
        return message
    return None


# Plain values as YAML and JSON may hold them.
NUMBERS = st.one_of(
    st.integers(-3, 3), st.sampled_from([10**9, -(10**9), 0.5, 1.5, -0.5, 1e-30, 1e30, 2**63])
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(["", "x", "\u2028", "../x", "1"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "type", "_target_", "levels"]), inner, max_size=2),
    ),
    max_leaves=3,
)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values within plain values."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def changed(plain: dict[str, Any], place: tuple[Any, ...], value: Any, what: str) -> dict[str, Any]:
    """Copy plain values with one of them replaced, removed, or with another beside it."""
    copied = copy.deepcopy(plain)
    node: Any = copied
    for key in place[:-1]:
        node = node[key]
    if what == "replace":
        node[place[-1]] = value
    elif what == "remove":
        del node[place[-1]]
    elif isinstance(node, dict):
        node[f"{place[-1]}x"] = value
    else:
        node.append(value)
    return copied


CHANGES = st.sampled_from(["replace", "replace", "remove", "add"])


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("fuzz")
    make_explainer(tmp)
    return tmp


def composed(command: str, *overrides: str) -> dict[str, Any]:
    """Right settings of a command, as plain values."""
    register_schemas()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose(command, list(overrides), return_hydra_config=True)
    with open_dict(config):
        config.hydra.runtime.output_dir = "/nowhere"
        HydraConfig.instance().set_config(config)
        del config["hydra"]
    plain: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    return plain


@pytest.fixture(scope="module")
def commands(tmp: Path) -> Iterator[dict[str, dict[str, Any]]]:
    before = HydraConfig.instance().cfg
    explainer = f"explainer={tmp}/explainer"
    training = [*TRAIN, f"classifier.path={tmp}/digits.safetensors", "logger=csv", "name=x"]
    yield {
        "train": composed("train", *training),
        "explain": composed("explain", explainer, "images=x", "output_dir=y"),
        "export": composed("export", explainer),
        "evaluate": composed("evaluate", explainer, *DIGITS),
    }
    HydraConfig.instance().cfg = before


SCHEMAS = {
    "train": TrainConfig,
    "explain": ExplainConfig,
    "export": ExportConfig,
    "evaluate": EvaluateConfig,
}


def start(command: str, plain: dict[str, Any]) -> None:
    """What a command does with its settings before anything long."""
    merged = OmegaConf.merge(OmegaConf.structured(SCHEMAS[command]), plain)
    assert isinstance(merged, DictConfig)
    config = resolve(merged)
    if command == "train":
        training_settings.check(config)
        prepare(config)
    elif command == "export":
        find_format(config["format"])
        image_size(config["image_size"] or [32, 32])


@pytest.mark.parametrize("command", ["train", "explain", "export", "evaluate"])
@cases(15)
@given(data=st.data())
def test_settings(command: str, data: st.DataObject, commands: dict[str, Any]) -> None:
    plain = commands[command]
    place = data.draw(st.sampled_from(sorted(places(plain), key=str)))
    if place[0] in ("hydra", "logger") or "path" in place or "directory" in place:
        return  # what would be written, and where
    value = data.draw(VALUES)
    given = changed(plain, place, value, data.draw(CHANGES))
    ended(lambda: start(command, given))


@cases(50)
@given(data=st.data())
def test_keys_of_an_explainer(data: st.DataObject, tmp: Path) -> None:
    plain = json.loads((tmp / "explainer/config.json").read_text())
    place = data.draw(st.sampled_from(sorted(places(plain), key=str)))
    given = changed(plain, place, data.draw(VALUES), data.draw(CHANGES))
    load_changed(tmp, lambda directory: (directory / "config.json").write_text(json.dumps(given)))


@cases(50)
@given(data=st.data())
def test_bytes_of_an_explainer(data: st.DataObject, tmp: Path) -> None:
    name = data.draw(st.sampled_from(["config.json", "model.safetensors"]))
    content = (tmp / "explainer" / name).read_bytes()
    broken = data.draw(damaged(content))
    whole = broken == content

    def damage(directory: Path) -> None:
        (directory / name).write_bytes(broken)

    message = load_changed(tmp, damage)
    if name == "model.safetensors" and not whole:
        assert message is not None  # other weights would give other maps


def load_changed(tmp: Path, change: Callable[[Path], Any]) -> str | None:
    """Load and use an explainer whose files were changed: maps of finite numbers, or one line."""
    directory = tmp / "changed"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(tmp / "explainer", directory)
    change(directory)

    def use() -> None:
        explainer = load_explainer(directory)
        posterior = explainer(random_images(1, 3, 16, 16))
        assert posterior.mean.isfinite().all()
        assert (posterior.stddev > 0).all()

    return ended(use)


@st.composite
def damaged(draw: st.DrawFn, content: bytes, first: int | None = None) -> bytes:
    """Bytes with one region overwritten, removed or repeated, or the end cut off."""
    size = len(content) if first is None else min(first, len(content))
    place = draw(st.integers(0, size - 1))
    length = draw(st.integers(1, 8))
    new = draw(st.binary(min_size=length, max_size=length))
    kind = draw(st.sampled_from(["overwrite", "overwrite", "remove", "repeat", "cut"]))
    if kind == "cut":
        return content[:place]
    if kind == "remove":
        return content[:place] + content[place + length :]
    if kind == "repeat":
        return content[:place] + content[place : place + length] * 2 + content[place + length :]
    return content[:place] + new + content[place + length :]


def encoded(form: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=form)
    return file.getvalue()


FORMATS = ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "ICO", "TGA", "JPEG2000"]
FILES = {form: encoded(form) for form in FORMATS}


@cases(60)
@given(data=st.data())
def test_headers_of_images(data: st.DataObject, tmp: Path) -> None:
    form = data.draw(st.sampled_from(FORMATS))
    path = tmp / "image"
    path.write_bytes(data.draw(damaged(FILES[form], first=128)))
    found = InputImages(tmp, [path], Preprocessing(resize_size=20, crop_size=(16, 16)))[0]
    if isinstance(found, BrokenImage):
        assert found.reason
        assert "\n" not in found.reason
    else:
        assert isinstance(found, InputImage)
        assert found.pixels.shape == (3, 16, 16)


class Returning(nn.Module):
    """A network that makes anything of the means of an image's channels."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images.mean((-2, -1)) * torch.tensor([1.0, 2.0, 3.0]))


OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "right": lambda z: z,
    "one": lambda z: z[:, :1],
    "no classes": lambda z: z[:, :0],
    "flat": lambda z: z[:, 0],
    "four axes": lambda z: z[:, :, None, None],
    "one image": lambda z: z[:1],
    "constant": torch.zeros_like,
    "probabilities": lambda z: z.softmax(-1),
    "detached": lambda z: z.detach(),
    "half": lambda z: z.half(),
    "double": lambda z: z.double(),
    "whole numbers": lambda z: (100 * z).long(),
    "truth": lambda z: z > 0.5,
    "infinite": lambda z: z / 0,
    "NaN": lambda z: z * torch.nan,
    "huge": lambda z: z * 1e38,
    "tuple": lambda z: (z, z),
    "list": lambda z: [z],
    "none": lambda z: None,
    "number": lambda z: 1.0,
    "numpy": lambda z: z.detach().numpy(),
    "complex": lambda z: torch.complex(z, z),
    "sparse": lambda z: z.to_sparse(),
}


@cases(20)
@given(
    name=st.sampled_from(sorted(OUTPUTS)),
    output=st.sampled_from(["softmax", "sigmoid"]),
    scale=st.sampled_from([1.0, 1e-20, 1e3]),
    size=st.sampled_from([16, 17, 33]),
)
def test_outputs_of_classifiers(name: str, output: Any, scale: float, size: int) -> None:
    network = Returning(lambda z: OUTPUTS[name](scale * z))
    classifier = FrozenClassifier(network, name="mine", output=output)
    images = random_images(2, 3, size, size)
    checked = ended(lambda: check_classifier(classifier, images))
    if checked is None:
        posterior = load_explainer("universal", classifier)(images)
        assert posterior.mean.isfinite().all()
        assert posterior.stddev.isfinite().all()
    else:
        assert name != "right" or scale < 1  # too small to tell the images apart
