"""An explainer explains its own classifier, and its file chooses no code."""

import json
import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from saliency_vae.classifiers import digits as digit_classifier
from saliency_vae.classifiers.builders import torchvision_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.classifiers.recorded import _ALLOWED, build_recorded, check_targets_allowed
from saliency_vae.cli.schemas import register_schemas
from saliency_vae.cli.validation import config_dir
from saliency_vae.data.preprocessing import Preprocessing
from saliency_vae.models.config import BEFORE_NAMES, FORMAT, ExplainerConfig

BUILT_IN = "saliency_vae.classifiers.digits.cluttered_digits_classifier"
Record = dict[str, Any]


def custom_network() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 3))


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[FrozenClassifier, ClassifierIdentity]:
    """Built-in classifier, trained for seconds, and how an explainer records it."""
    path = tmp_path_factory.mktemp("classifier") / "digits.safetensors"
    arguments = {"path": str(path), "image_size": 32, "train_size": 64, "epochs": 1, "seed": 0}
    classifier = cluttered_digits_classifier(**arguments)  # type: ignore[arg-type]
    return classifier, replace(classifier.identity(), builder={"_target_": BUILT_IN, **arguments})


Trained = tuple[FrozenClassifier, ClassifierIdentity]


@pytest.fixture(autouse=True)
def no_training(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digit_classifier, "_train", lambda *_: pytest.fail("it was trained"))


def with_builder(record: ClassifierIdentity, **changes: Any) -> ClassifierIdentity:
    assert record.builder is not None
    return replace(record, builder={**record.builder, **changes})


def custom(tmp_path: Path, seed: int = 0, **arguments: Any) -> Record:
    torch.manual_seed(seed)
    path = tmp_path / f"{seed}.safetensors"
    save_file(custom_network().state_dict(), path)
    return {
        "_target_": "saliency_vae.classifiers.builders.custom_classifier",
        "module": f"{__name__}.custom_network",
        "weights": str(path),
        **arguments,
    }


def build(node: Record) -> FrozenClassifier:
    classifier: FrozenClassifier = instantiate(node, _convert_="all")
    return classifier


def test_the_recorded_classifier_is_built(trained: Trained) -> None:
    classifier, record = trained
    found = build_recorded(record, None)
    assert found.identity() == classifier.identity()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(found(images), classifier(images))


def test_a_record_that_went_through_json_is_built(trained: Trained) -> None:
    record = read(trained[1], trained[1].builder, version=BEFORE_NAMES)
    assert build_recorded(record, None).identity() == trained[0].identity()


def test_a_torchvision_classifier_is_built_from_its_record() -> None:
    torch.manual_seed(0)
    node = {
        "_target_": "saliency_vae.classifiers.builders.torchvision_classifier",
        "name": "squeezenet1_1",
        "weights": None,
        "output": "sigmoid",
    }
    config = replace(
        torchvision_classifier("squeezenet1_1", None, "sigmoid").identity(), builder=node
    )
    torch.manual_seed(0)
    assert build_recorded(config, None).output == "sigmoid"
    with pytest.raises(ValueError, match="another sha256"):
        build_recorded(config, None)  # random weights, others now


def test_another_classifier_is_refused_with_both_named(tmp_path: Path) -> None:
    own, other = custom(tmp_path, seed=1), custom(tmp_path, seed=2)
    config = replace(build(own).identity(), builder=own)
    with pytest.raises(ValueError, match="another sha256") as refused:
        build_recorded(config, None, other)
    for node in (own, other):
        assert str(build(node).identity()) in str(refused.value)
    assert "force=true" in str(refused.value)
    assert build_recorded(config, None, own).identity() == build(own).identity()
    forced = build_recorded(config, None, other, force=True)
    assert forced.identity() == build(other).identity()


@pytest.mark.parametrize(
    ("argument", "value"),
    [("mean", [0.5, 0.5, 0.5]), ("std", [0.25, 0.25, 0.25]), ("output", "sigmoid")],
)
def test_the_same_weights_used_otherwise_are_another_classifier(
    argument: str, value: Any, tmp_path: Path
) -> None:
    config = build(custom(tmp_path)).identity()
    other = custom(tmp_path, **{argument: value})
    with pytest.raises(ValueError, match=f"another {argument}"):
        build_recorded(config, None, other)
    found = getattr(build_recorded(config, None, other, force=True).identity(), argument)
    assert found == (tuple(value) if isinstance(value, list) else value)


def test_a_recorded_classifier_of_ones_own_must_be_named(tmp_path: Path) -> None:
    own = custom(tmp_path)
    config = replace(build(own).identity(), builder=own)
    for force in (False, True):
        with pytest.raises(ValueError, match=r"classifier=.* on the command line"):
            build_recorded(config, None, force=force)
    own |= {"mean": [0.1, 0.2, 0.3], "resize_size": 20, "arguments": {"width": 3}}
    config = replace(config, builder=own)
    with pytest.raises(ValueError, match="for you to check and type") as refused:
        build_recorded(config, None)
    typed = shlex.split(str(refused.value).partition("type: ")[2])
    register_schemas()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        overrides = [*typed, "explainer=x", "images=y", "output_dir=z"]
        composed = OmegaConf.to_container(compose("explain", overrides).classifier)
    assert isinstance(composed, dict)
    assert {name: composed[name] for name in own} == own
    own = custom(tmp_path)
    assert build_recorded(config, None, own).name.endswith("custom_network")


def read(record: ClassifierIdentity, builder: Any, version: int = FORMAT) -> ClassifierIdentity:
    """Read an identity as a file of a format holds it, with any builder."""
    plain = {
        "format": version,
        "encoder": {},
        "prior": {},
        "classifier": {**asdict(record), "builder": builder},
    }
    identity = ExplainerConfig.from_plain(json.loads(json.dumps(plain)), "config.json").classifier
    assert identity is not None
    return identity


@pytest.mark.parametrize(
    "builder",
    [
        None,
        "os.getcwd",
        {},
        {"_target_": "os.mkdir", "path": "made"},
        {
            "_target_": "saliency_vae.classifiers.builders.torchvision_classifier",
            "name": {"_target_": "os.mkdir", "path": "made"},
        },
        {"_target_": BUILT_IN, "path": [{"_target_": "os.mkdir", "path": "made"}]},
        {"_target_": BUILT_IN, "path": "${oc.env:HOME}"},
    ],
    ids=["none", "text", "empty", "code", "code inside", "code deep inside", "interpolation"],
)
@pytest.mark.parametrize("version", [BEFORE_NAMES, FORMAT])
def test_a_file_chooses_no_code(
    version: int, builder: Any, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^Expected .* Found "):
        build_recorded(read(trained[1], builder, version), None, force=True)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("changes", [{"train_size": 65}, {"image_size": 48}, {"epochs": 2}])
def test_a_file_trains_and_overwrites_nothing(changes: Record, trained: Trained) -> None:
    assert trained[1].builder is not None
    path = Path(trained[1].builder["path"])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"classifier\.path=FILE"):
        build_recorded(with_builder(trained[1], **changes), None)
    assert path.read_bytes() == before


def test_missing_or_foreign_weights_are_one_error_and_stay(
    trained: Trained, tmp_path: Path
) -> None:
    text, foreign = tmp_path / "text.safetensors", tmp_path / "foreign.safetensors"
    text.write_text("mine")
    save_file({"mine": torch.ones(1)}, foreign)
    for path in (tmp_path / "nowhere/x.safetensors", tmp_path, text, foreign):
        record = with_builder(trained[1], path=str(path))
        with pytest.raises(ValueError, match=f"at {path}") as refused:
            build_recorded(record, None)
        assert "\n" not in str(refused.value)
    assert text.read_text() == "mine"
    assert load_file(foreign)["mine"] == 1
    assert not (tmp_path / "nowhere").exists()


def test_other_preprocessing_is_refused_unless_forced(tmp_path: Path) -> None:
    node = custom(tmp_path, resize_size=40, crop_size=32)
    classifier = build(node)
    recorded = classifier.identity(), classifier.preprocessing
    assert build_recorded(*recorded, node).preprocessing == classifier.preprocessing
    forgotten = custom(tmp_path)
    with pytest.raises(ValueError, match=r"preprocessed as .*resize_size=40.*Found .*None"):
        build_recorded(*recorded, forgotten)
    assert build_recorded(*recorded, forgotten, force=True).preprocessing == Preprocessing()


def test_check_targets_allowed_accepts_what_is_allowed() -> None:
    node = {"_target_": "a.B", "parts": [{"_target_": "a.C", "size": 3, "name": "$x {y}"}]}
    check_targets_allowed(node, {"a.B", "a.C"}, "here")
    check_targets_allowed(None, {"a.B"}, "here")
    with pytest.raises(ValueError, match=r"Expected here to be one of a\.B\. Found a\.C\."):
        check_targets_allowed(node, {"a.B"}, "here")


def test_files_may_name_builders_that_run_no_other_code() -> None:
    """A new one becomes code that runs because a file says so: think about it, then list it."""
    assert {path.removeprefix("saliency_vae.classifiers.") for path in _ALLOWED} == {
        "builders.huggingface_classifier",
        "builders.timm_classifier",
        "builders.torchvision_classifier",
        "digits.cluttered_digits_classifier",
        "efficientnet_lite.efficientnet_lite_classifier",
        "randomised.randomised_classifier",
    }
