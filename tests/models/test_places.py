"""An explainer and the built-in classifier that it explains are found wherever they lie."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saliency_vae.evaluation.randomised import main_explainer
from saliency_vae.models import Explainer, load_explainer, save_explainer
from saliency_vae.models.serialization import find_directory
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.training.initial_weights import start_from
from tests.faults.made import make_explainer
from tests.models.test_explainer import random_images


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Directory of a run, whose classifier was trained elsewhere."""
    run = tmp_path / "run"
    explainer = load_explainer(make_explainer(tmp_path / "elsewhere"))
    explainer.kept_classifier = tmp_path / "elsewhere/digits.safetensors"
    save_explainer(explainer, run / "explainer")
    return run


def test_the_directory_of_a_run_is_as_good_as_its_explainer(run: Path) -> None:
    images = random_images(1, 3, 20, 20)
    of_run, own = load_explainer(run), load_explainer(str(run / "explainer"))
    assert torch.equal(of_run(images).mean, own(images).mean)
    assert main_explainer({"explainer": str(run)}) == run / "explainer"
    start_from(own, str(run))
    assert torch.equal(own(images).mean, of_run(images).mean)


def test_the_weights_that_come_with_the_package_are_small_and_those_of_their_card() -> None:
    directory = find_directory("universal", {})
    weights, card = directory / "model.safetensors", directory / "README.md"
    assert weights.stat().st_size <= 4_000_000
    assert f"`{hashlib.sha256(weights.read_bytes()).hexdigest()}`" in card.read_text()


def test_training_starts_from_the_same_weights_with_other_copies_and_smoothing() -> None:
    shipped = load_explainer("universal")
    node = {**shipped.config.encoder, "copies": 3, "edge_aware": 0.25}
    explainer = Explainer.from_config(replace(shipped.config, encoder=node))
    start_from(explainer, "universal")
    encoder = explainer.encoder
    assert isinstance(encoder, UniversalUNet)
    assert (encoder.copies, encoder.edge_aware) == (3, 0.25)
    for name, value in shipped.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name
    narrow = Explainer.from_config(replace(shipped.config, encoder={**node, "members": 1}))
    expected = r"Expected the encoder of init=universal.*'members': 4.*experiment=fine_tune"
    with pytest.raises(ValueError, match=expected):
        start_from(narrow, "universal")


def test_a_built_in_classifier_comes_with_its_explainer(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_explainer(run).classifier.identity()
    shutil.rmtree(tmp_path / "elsewhere")  # or another directory, or another machine
    moved = shutil.move(run, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    loaded = load_explainer(moved)
    assert loaded.classifier.identity() == expected
    assert {path.name for path in (tmp_path / "moved/explainer").iterdir()} == {
        *("config.json", "model.safetensors", "classifier.safetensors")
    }
    loaded.save_pretrained(tmp_path / "again")
    assert load_explainer(tmp_path / "again").classifier.identity() == expected
    (tmp_path / "again/classifier.safetensors").unlink()
    with pytest.raises(ValueError, match=r"Found no file\..*classifier\.path=FILE"):
        load_explainer(tmp_path / "again").build_classifier()


def test_a_file_that_an_explainer_names_is_not_copied(run: Path, tmp_path: Path) -> None:
    """Whoever shares an explainer of somebody else would share that file too."""
    (run / "explainer/classifier.safetensors").unlink()
    save_explainer(load_explainer(run), tmp_path / "again")
    assert not (tmp_path / "again/classifier.safetensors").exists()
