"""A universal explainer by the commands: trained on two classifiers at once, resumed, evaluated."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from saliency_vae import load_explainer
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.digit_networks import Architecture
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.evaluate import evaluate
from saliency_vae.evaluation.methods import ExplainerMethod
from saliency_vae.evaluation.pointing import GRID_POINTING, ask_all, build_grids
from saliency_vae.evaluation.randomised import ask_randomised
from saliency_vae.evaluation.signal_controls import signal_controls
from saliency_vae.training.run import with_randomised_classifier
from tests.commands.test_train import error_of, run_here
from tests.conftest import blob_classifier, blobs
from tests.evaluation.pointing.colours import CPU
from tests.evaluation.pointing.colours import images as painted
from tests.helpers import tiny_universal
from tests.helpers.digits import write_digits

pytestmark = pytest.mark.usefixtures("one_thread")

PLACES = ("lite0", "lite0_224", "lite1", "lite1_224")
TINY = [
    "experiment=universal",
    *(f"~tasks.{place}" for place in PLACES),
    "data.batch_size=8",
    "data.num_workers=0",
    "encoder.channels=[4,6,8]",
    "encoder.copies=2",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "++trainer.enable_progress_bar=false",
    "++trainer.enable_model_summary=false",
    "logger=csv",
]
# Task, architecture and side of its images.
TASKS: list[tuple[str, Architecture, int]] = [
    ("digits", "convolutional", 32),
    ("digits_residual", "residual", 40),
]


@pytest.fixture(scope="module")
def classifiers(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the files of classifiers that nobody has trained."""
    root = tmp_path_factory.mktemp("classifiers")
    for task, architecture, size in TASKS:
        write_digits(root / f"{task}.safetensors", size, architecture=architecture)
    return root


def settings_of(classifiers: Path) -> list[str]:
    made = list(TINY)
    for task, _, size in TASKS:
        made += [
            f"tasks.{task}.classifier.path={classifiers}/{task}.safetensors",
            f"tasks.{task}.classifier.image_size={size}",
            f"tasks.{task}.classifier.train_size=64",
            f"tasks.{task}.classifier.epochs=1",
            f"tasks.{task}.classifier.seed=0",
            f"tasks.{task}.data.image_size={size}",
            f"tasks.{task}.data.train_size=32",
            f"tasks.{task}.data.val_size=16",
            f"tasks.{task}.data.test_size=16",
        ]
    return made


def built(classifiers: Path) -> list[FrozenClassifier]:
    return [
        cluttered_digits_classifier(
            classifiers / f"{task}.safetensors", size, 64, 1, architecture=architecture
        )
        for task, architecture, size in TASKS
    ]


@pytest.fixture(scope="module", autouse=True)
def plain_panels() -> Iterator[None]:
    """Most of the time would go into drawing explanations, which are of the last task."""

    def draw(images: Tensor, posterior: SaliencyPosterior, *_: Any, **further: Any) -> Figure:
        assert posterior.mean.shape == (len(images), *images.shape[-2:])
        assert images.shape[-1] in (40, 160)  # of the last task
        assert (further["masks"] is not None) == (images.shape[-1] == 40)  # known for digits
        return Figure((1, 1))

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("saliency_vae.training.panels.explanation_figure", draw)
        yield


@pytest.fixture(scope="module")
def trained(
    plain_panels: None, classifiers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Directory of a run of six steps, of eight in an epoch."""
    run = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as monkeypatch:
        settings = [*settings_of(classifiers), "+trainer.max_steps=6", "scheduler=constant"]
        run_here(monkeypatch, *settings, f"hydra.run.dir={run}")
    return run


def test_the_saved_explainer_records_all_classifiers_and_is_for_any(
    trained: Path, classifiers: Path
) -> None:
    saved = json.loads((trained / "explainer/config.json").read_text())
    known = built(classifiers)
    assert [each["sha256"] for each in saved["classifiers"]] == [
        classifier.identity().sha256 for classifier in known
    ]
    assert [each["name"] for each in saved["classifiers"]] == [
        "cluttered_digits",
        "cluttered_digits_residual",
    ]
    assert not saved.keys() & {"classifier", "data", "preprocessing", "confidence"}
    assert {"val/loss", "val/complement", "val/iou"} <= saved["metrics"].keys()

    explainer = load_explainer(trained / "explainer")
    assert explainer.is_universal
    assert explainer.config.classifiers is not None
    assert [explainer.was_trained_for(classifier.identity()) for classifier in known] == [True] * 2
    assert not explainer.was_trained_for(blob_classifier().identity())
    with pytest.raises(ValueError, match=r"Expected a classifier.*attach_classifier\(classifier\)"):
        explainer(blobs(2))
    for classifier, size in [(blob_classifier(), 16), (known[0], 32), (known[1], 40)]:
        images = torch.rand(2, 3, size, size)
        posterior = explainer.attach_classifier(classifier)(images)
        assert posterior.mean.shape == (2, size, size)
        assert posterior.mean.isfinite().all()

    weights = load_file(trained / "explainer/model.safetensors")
    assert weights["encoder.unet.head.weight"].any()  # zero at first


def test_steps_are_for_both_classifiers(trained: Path) -> None:
    with (trained / "metrics.csv").open(newline="") as file:
        logged = list(csv.DictReader(file))
    steps = [row for row in logged if row["train/loss"]]
    assert [row["step"] for row in steps] == [str(step) for step in range(6)]
    assert (trained / "panels/epoch_000.png").stat().st_size > 0
    assert (trained / "explanations.png").stat().st_size > 0


def test_a_run_that_stopped_within_an_epoch_ends_as_the_whole_one(
    trained: Path,
    classifiers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = [*settings_of(classifiers), "scheduler=constant"]
    run_here(monkeypatch, *settings, "+trainer.max_steps=3", f"hydra.run.dir={tmp_path}")
    weights = tmp_path / "explainer/model.safetensors"
    first = weights.read_bytes()
    run_here(monkeypatch, "ckpt_path=last", f"hydra.run.dir={tmp_path}", "trainer.max_steps=6")
    assert weights.read_bytes() != first
    expected = load_file(trained / "explainer/model.safetensors")
    for name, values in load_file(weights).items():
        assert torch.equal(values, expected[name]), name


def test_the_explainer_of_one_task_records_its_classifier_and_data(
    classifiers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "saliency_vae.training.panels.explanation_figure", lambda *_, **__: Figure((1, 1))
    )
    of_first = [setting for setting in settings_of(classifiers) if "digits_residual" not in setting]
    one = [*of_first, "~tasks.digits_residual", "scheduler=constant", "+trainer.max_steps=1"]
    run_here(monkeypatch, *one, f"hydra.run.dir={tmp_path}")
    saved = json.loads((tmp_path / "explainer/config.json").read_text())
    assert saved["classifier"]["builder"]["path"] == f"{classifiers}/digits.safetensors"
    assert saved["data"]["image_size"] == 32
    assert "classifiers" not in saved
    explainer = load_explainer(tmp_path / "explainer")
    assert explainer.explain(torch.rand(3, 32, 32)).mean.shape == (32, 32)


def test_fine_tuning_starts_from_the_weights_that_come_with_the_package(
    classifiers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "saliency_vae.training.panels.explanation_figure", lambda *_, **__: Figure((1, 1))
    )
    for number in range(10):
        Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / f"{number}.png")
    run_here(
        monkeypatch,
        "experiment=fine_tune",
        "classifier=cluttered_digits",
        f"classifier.path={classifiers}/digits.safetensors",
        *("classifier.image_size=32", "classifier.train_size=64", "classifier.epochs=1"),
        *(f"data.root={tmp_path}", "data.batch_size=8", "data.num_workers=0"),
        *("optimizer.lr=1e-7", "trainer.max_epochs=-1", "+trainer.max_steps=1"),
        *(setting for setting in TINY if "trainer" in setting or "logger" in setting),
        f"hydra.run.dir={tmp_path}/run",
    )
    tuned, shipped = load_explainer(tmp_path / "run"), load_explainer("universal")
    assert tuned.config.encoder == shipped.config.encoder
    expected = shipped.encoder.state_dict()
    for name, values in tuned.encoder.state_dict().items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=1e-6)
    assert tuned.explain(torch.rand(3, 32, 32), target=7).target == "7"


def test_the_classifier_of_each_task_is_randomised() -> None:
    tasks = {name: {"classifier": {"_target_": name}, "data": {}} for name in ("a", "b")}
    config = {"randomise_classifier": True, "tasks": tasks, "classifier": {}, "seed": 3}
    made = with_randomised_classifier(config)
    for name in ("a", "b"):
        node = made["tasks"][name]["classifier"]
        assert node["_target_"].endswith("randomised_classifier")
        assert node["classifier"] == {"_target_": name}
        assert node["seed"] == 3
    assert made["classifier"] == {}


def test_torchvision_and_timm_on_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small random networks in place of those that the experiment names."""
    pytest.importorskip("timm")
    for number, split in enumerate(("train", "train", "train", "train", "val", "val")):
        file = tmp_path / "images" / split / "class" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 64), (40 * number, 90, 200)).save(file)
    small = [setting for setting in TINY if "experiment" not in setting and "~" not in setting]
    run_here(
        monkeypatch,
        "experiment=universal_imagenet",
        *small,
        "data.batch_size=2",
        f"tasks.resnet50.data.root={tmp_path / 'images'}",
        "tasks.resnet50.classifier={name: squeezenet1_1, weights: null}",
        "tasks.swin.classifier={name: test_vit.r160_in1k, pretrained: false}",
        "~tasks.vit_b_16",
        "~tasks.convnext",
        "+trainer.max_steps=2",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    saved = json.loads((tmp_path / "run/explainer/config.json").read_text())
    assert [each["name"] for each in saved["classifiers"]] == [
        "torchvision/squeezenet1_1",
        "timm/test_vit.r160_in1k",
    ]


def test_wrong_tasks_are_one_clear_error(
    classifiers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"hydra.run.dir={tmp_path}"
    settings = settings_of(classifiers)
    for wrong, said in (
        ("tasks.digits.weight=0", "tasks.digits.weight > 0. Found 0"),
        ("tasks.digits.classifier.architecture=resnet", "architecture"),
        ("classifier=cluttered_digits", "Expected tasks.NAME.classifier"),
        ("+tasks.digits.wieght=4", "Found tasks.digits.wieght. Did you mean weight?"),
        ("confidence_width=4", "Expected confidence_width=null with tasks"),
    ):
        assert said in error_of(monkeypatch, *settings, wrong, where)


# ---- evaluation

SMALL = [
    "batch_size=5",
    "steps=4",
    "gallery=2",
    "own_mask_images=2",
    "reference_images=0",
    "posterior_images=0",
    "robustness_images=0",
    "two_object_images=0",
    "corruption_images=4",
    "eval_x_steps=0",
    "limit=16",
    "slow_images=null",
    "methods=[explainer,random]",
    "data=cluttered_digits",
    "data.image_size=32",
    "data.test_size=16",
]
Run = Callable[..., list[str]]


@pytest.fixture
def run(
    trained: Path,
    tmp_path: Path,
    plain_figures: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """Run the command in this process; returns the printed lines."""

    def call(*arguments: str) -> list[str]:
        where = [f"explainer={trained / 'explainer'}", f"hydra.run.dir={tmp_path / 'run'}"]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *where, *SMALL, *arguments])
        capfd.readouterr()
        evaluate()
        return capfd.readouterr().out.splitlines()

    return call


def test_an_evaluation_without_a_classifier_asks_for_one(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: Expected a classifier.*universal explainer"):
        run("grid_questions=0")
    assert not (tmp_path / "run/report.html").exists()


def test_an_evaluation_answers_questions_and_needs_no_confidence_network(
    run: Run, tmp_path: Path, classifiers: Path
) -> None:
    lines = run(
        "classifier=cluttered_digits",
        f"classifier.path={classifiers}/digits.safetensors",
        "classifier.image_size=32",
        "classifier.train_size=64",
        "classifier.epochs=1",
        "grid_questions=8",
        "randomised=train",  # nothing is trained
    )
    assert lines[-1] == str(tmp_path / "run/report.html")
    assert "<h2>Grids of four images</h2>" in (tmp_path / "run/report.html").read_text()
    left_out = [line for line in lines if line.startswith("Left out")]
    assert any("it is measured on the classifier" in line for line in left_out), lines
    assert not any("Grid pointing game" in line for line in left_out), left_out
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    assert int(rows["explainer", "grid_share"]["images"]) == 8  # in two grids
    assert float(rows["explainer", "passes"]["mean"]) == 2 * 2  # copies x levels
    written = json.loads((tmp_path / "run/metrics.json").read_text())
    said = [row["text"] for row in written["verdicts"]]
    assert not any("Forced" in text for text in said)
    selected = [row["text"] for row in written["uncertainty"]["verdicts"]]
    assert any("least sufficient" in text for text in selected), selected
    assert any("an explainer for a randomised classifier" in text for text in said)
    assert not (tmp_path / "run/randomised").exists()


def test_a_universal_explainer_needs_no_explainer_of_a_randomised_classifier(run: Run) -> None:
    with pytest.raises(SystemExit, match=r"^error: Expected no randomised=DIR with a universal"):
        run("grid_questions=0", "randomised=outputs")


def test_a_universal_explainer_is_asked_about_a_randomised_classifier() -> None:
    classifier = blob_classifier()
    explainer = tiny_universal.build(classifier)
    asked = ask_randomised(explainer, classifier)
    shuffled = randomised_classifier(classifier)
    expected = tiny_universal.build(shuffled)(blobs(4)).mean
    torch.testing.assert_close(asked(blobs(4)).mean, expected)
    assert explainer.classifier is classifier


def test_methods_of_a_universal_explainer_take_what_is_asked() -> None:
    classifier = blob_classifier()
    explainer = tiny_universal.build(classifier)
    images = blobs(4)
    decision = classifier.decide(classifier(images))
    other = decision.roll(1, 1)
    methods = {"explainer": ExplainerMethod(explainer), **signal_controls(explainer)}
    assert [*methods] == ["explainer", "zeroed_signals", "randomised_signals"]
    for name, method in methods.items():
        of_decision = method({"image": images, "target": decision}, classifier)
        of_other = method({"image": images, "target": other}, classifier)
        by_default = method({"image": images}, classifier)
        assert of_decision.shape == (4, 16, 16)
        ignored = name == "zeroed_signals"
        assert torch.allclose(of_decision, of_other, atol=1e-3) == ignored, name
        if name != "randomised_signals":  # which decides otherwise
            assert torch.equal(of_decision, by_default)
    found = methods["explainer"]({"image": images, "target": other}, classifier)
    with torch.inference_mode():
        torch.testing.assert_close(found, explainer.encode(images, target=other).mean)


def test_grids_are_answered_by_what_is_asked(classifiers: Path) -> None:
    (classifier, _) = built(classifiers)
    data = ClutteredDigits("test", 16, image_size=32)
    images = painted([], batch_size=4)
    images = type(images)(data, name="digits", batch_size=4, num_workers=0, device=CPU)
    grids = build_grids(images, classifier, questions=8)
    methods = {"explainer": ExplainerMethod(tiny_universal.build(classifier))}
    answers = ask_all(GRID_POINTING, methods, grids, classifier, keep=1)
    assert answers.left_out == ()
    assert answers.values["grid_share"]["explainer"].shape == (8,)  # images, in two grids
    (maps,) = answers.maps["explainer"]
    assert len(maps) == 4
    assert not any(torch.allclose(maps[0], other, atol=1e-3) for other in maps[1:])
