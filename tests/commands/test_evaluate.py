"""The command from the command line to the report, tiny."""

import csv
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.cli.schemas import EvaluateConfig
from saliency_vae.cli.validation import config_dir
from saliency_vae.data.batch import Batch
from saliency_vae.evaluate import evaluate
from saliency_vae.evaluation.sanity import note_other_classifier
from saliency_vae.models import Explainer, load_explainer, save_explainer
from saliency_vae.models.config import ExplainerConfig
from tests.faults.made import PARTS
from tests.helpers.browser import chromium, visit
from tests.helpers.digits import recorded_digits

pytestmark = pytest.mark.usefixtures("one_thread")

DIGITS = [
    "data=cluttered_digits",
    "data.image_size=32",
    *("data.train_size=16", "data.val_size=4", "data.test_size=8", "data.batch_size=8"),
]
SMALL = [
    "batch_size=5",
    "steps=6",
    "gallery=3",
    "own_mask_images=4",
    "reference_images=0",
    "posterior_images=0",
    "reference_runs=2",
    "reference_steps=2",
    "robustness_images=0",
    "corruption_images=0",
    "baseline_images=[blur]",
    "grid_questions=0",
    "two_object_images=0",
    "slow_images=null",
]
FULL = [  # most of the time of a small evaluation
    "reference_images=3",
    "corruption_images=8",
    "baseline_images=[blur,mean,inpaint]",
]
CHEAP = "methods=[explainer,random,oracle]"
ALL_CHEAP = [
    "baselines.integrated_gradients.n_steps=3",
    "baselines.smoothgrad.samples=2",
    "baselines.vargrad.samples=2",
    "baselines.occlusion.stride=0.125",
    "baselines.rise.masks=8",
    "baselines.per_image.steps=1",
    "baselines.gradient_shap.samples=2",
    "baselines.kernel_shap.samples=20",
    "baselines.kernel_shap.segments=6",
    "baselines.shap_bpt.evaluations=10",
    "baselines.optimised_mask.steps=1",
    "baselines.region_search.segments=4",
]
NAMES = {
    *("explainer", "gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "vargrad"),
    *("guided_backprop", "grad_cam", "occlusion", "rise", "per_image", "random"),
    *("gradient_shap", "deep_lift", "lrp", "layer_cam", "score_cam", "kernel_shap", "shap_bpt"),
    *("optimised_mask", "region_search"),
    *("centre_prior", "edge_magnitude", "blurred_gradient", "oracle"),
}


class Mine:
    """Somebody's own method."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        return self.sign * batch["image"].mean(1)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """Explainers ``mine`` and ``twin`` of one classifier, and ``other`` of another."""
    root = tmp_path_factory.mktemp("explainers")
    for name, classifier, seed in (("mine", "a", 0), ("twin", "a", 1), ("other", "b", 2)):
        identity = recorded_digits(root / f"{classifier}.safetensors", seed=ord(classifier))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            explainer = Explainer.from_config(ExplainerConfig(**PARTS, classifier=identity))
            nn.init.normal_(explainer.get_parameter("encoder.head.weight"), std=0.5)
        save_explainer(explainer, root / name)
    return root


Run = Callable[..., list[str]]


@pytest.fixture
def run(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Run:
    """Run the command in this process; returns the printed lines."""

    def call(*arguments: str) -> list[str]:
        explainer = f"explainer={directory / 'mine'}"
        where = f"hydra.run.dir={tmp_path / 'run'}"
        monkeypatch.setattr(sys, "argv", ["evaluate.py", explainer, where, *SMALL, *arguments])
        capfd.readouterr()
        evaluate()
        return capfd.readouterr().out.splitlines()

    return call


Fail = Callable[..., str]


@pytest.fixture
def error_of(run: Run, tmp_path: Path) -> Fail:
    """Run the command to its one-line error; nothing may have been written."""

    def call(*arguments: str) -> str:
        with pytest.raises(SystemExit) as error:
            run(*arguments)
        assert not (tmp_path / "run/report.html").exists()
        message = str(error.value)
        assert message.startswith("error: ")
        assert "\n" not in message
        return message

    return call


def metrics(run: Path) -> dict[tuple[str, str], dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return {(row["method"], row["metric"]): row for row in csv.DictReader(file)}


def found(run: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return read


# ---- all of it


@pytest.mark.usefixtures("plain_figures")
def test_every_method_into_one_report(
    run: Run, tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saliency_vae.evaluation.robustness.DRAWS", 2)
    lines = run(
        *DIGITS,
        *ALL_CHEAP,
        *FULL,
        "data.test_size=4",
        "batch_size=3",
        "steps=3",
        "own_mask_images=2",
        "reference_images=2",
        "posterior_images=2",
        "robustness_images=1",
        "baseline_images=[blur,mean,zero,noise,light_blur,classifier_mean,inpaint,road]",
        "eval_x_steps=2",
        f"randomised={directory / 'other'}",
        f"ensemble=[{directory / 'twin'}]",
        "+baselines.mine._target_=tests.commands.test_evaluate.Mine",
        "+baselines.mine.sign=-1",
        f"explainer={directory / 'mine'},{directory / 'twin'}",
    )
    out = tmp_path / "run"
    assert lines[-1] == str(out / "report.html")
    assert max(map(len, lines[:20])) <= 100
    left_out = [line for line in lines if line.startswith("Left out")]
    assert all("grid_questions" in line or "two_object_images" in line for line in left_out)

    rows = metrics(out)
    methods = NAMES | {"mine", "twin"}
    assert {method for method, _ in rows} == methods
    expected = {
        *("insertion", "deletion", "insertion_zero", "deletion_zero", "agreement_5", "iou"),
        *("insertion_mean", "deletion_mean", "insertion_light_blur", "deletion_classifier_mean"),
        *("pointing_game", "relevance_mass", "relevance_rank", "sparsity", "own_mask"),
        *("insertion_inpaint", "deletion_road", "srg", "srg_noise", "eval_x"),
        *("infidelity", "sensitivity", "passes", "seconds", "bytes"),
        *("sufficiency_10", "necessity_10", "lost_10"),
    }
    assert expected <= {metric for _, metric in rows}
    for (_, metric), row in rows.items():
        if metric not in ("passes", "seconds", "bytes"):
            low, mean, high = (float(row[name]) for name in ("low", "mean", "high"))
            assert low - 1e-6 <= mean <= high + 1e-6
            number = {"own_mask": 2, "eval_x": 3, "infidelity": 1, "sensitivity": 1}.get(metric, 4)
            assert int(row["images"]) == number
    assert float(rows["oracle", "iou"]["mean"]) == 1

    said = found(out)
    assert any(verdict["text"].startswith("Sanity check: ") for verdict in said["verdicts"])
    assert "3 independent runs" in said["run_metadata"]["protocol"]
    assert said["run_metadata"]["data"] == "test images of cluttered_digits"
    assert said["run_metadata"]["configuration"].startswith("tiny: UNet(channels=[4, 8])")
    assert said["roles"]["twin"] == said["roles"]["explainer"] == "explainer"
    assert (said["roles"]["mine"], said["roles"]["oracle"]) == ("rival", "oracle")
    uncertainties = {(row["role"], row["uncertainty"]) for row in said["uncertainty"]["metrics"]}
    assert {
        ("explainer", "P(1-P)"),
        ("explainer", "standard deviation"),
        ("control", "VarGrad"),
    } <= uncertainties

    assert "deep uncertainty" in said["uncertainty"]["curves"]["selective"]

    with np.load(out / "curves.npz") as arrays:
        assert arrays["insertion_zero/mine"].shape == (4, 4)


def test_the_report_in_a_browser(run: Run, tmp_path: Path) -> None:
    run(*DIGITS, CHEAP, *FULL)
    out = tmp_path / "run"
    drawn = {path.name for path in (out / "figures").iterdir()}
    for name in ("curves", "speed", "gallery", "reliability", "selective", "sparsification_top"):
        assert {f"{name}.png", f"{name}.svg"} <= drawn
    with chromium() as browser, visit(browser, out / "report.html", width=1280) as visited:
        page = visited.page
        assert visited.complaints == []
        assert page.locator("#ranking tbody tr").count() == 3
        assert page.locator("#ranking tr.control, #ranking tr.oracle").count() == 2
        assert page.locator("#ranking tr.explainer").count() == 1
        assert page.locator("#gallery img").count() == 3 * (2 + 3)
        assert page.locator("img.chart").count() == 9
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


@pytest.mark.usefixtures("plain_figures")
def test_it_repeats_and_limit_takes_the_first_images(run: Run, tmp_path: Path) -> None:
    tables, values = [], []
    for limit in (8, 8, 5):
        run(*DIGITS, CHEAP, f"limit={limit}")
        rows = metrics(tmp_path / "run")
        tables.append({key: row for key, row in rows.items() if key[1] != "seconds"})
        with np.load(tmp_path / "run/curves.npz") as arrays:
            values.append(arrays["values/insertion/explainer"])
    assert tables[0] == tables[1]
    np.testing.assert_allclose(values[2], values[0][:5], rtol=1e-5)


# ---- several explainers, slow methods, killed evaluations


class Counting:
    """A method that counts how many images it is asked about, and ends after some of them."""

    asked: ClassVar[list[int]] = []
    most: ClassVar[int] = 1000

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        if sum(self.asked) >= self.most:
            raise KeyboardInterrupt
        self.asked.append(len(batch["image"]))
        return batch["image"].mean(1)


class Slow:
    """A method of 30 passes an image."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        for _ in range(30):
            classifier(batch["image"])
        return batch["image"].mean(1)


@pytest.mark.usefixtures("plain_figures")
def test_a_killed_evaluation_goes_on_where_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = (
        "methods=[explainer,counting,random]",
        "+baselines.counting._target_=tests.commands.test_evaluate.Counting",
    )
    monkeypatch.setattr(Counting, "asked", [])
    run(*DIGITS, *counting, "hydra.run.dir=" + str(tmp_path / "whole"))
    assert Counting.asked == [1, 1, 5, 3]  # warmed up twice, then two batches
    assert not (tmp_path / "whole/progress").exists()

    monkeypatch.setattr(Counting, "asked", [])
    monkeypatch.setattr(Counting, "most", 7)  # it ends in the second batch
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(*DIGITS, *counting)
    monkeypatch.setattr(Counting, "asked", [])
    monkeypatch.setattr(Counting, "most", 1000)
    lines = run(*DIGITS, *counting)
    assert any("Going on with the evaluation" in line for line in lines)
    assert Counting.asked == [1, 1, 3]  # the first batch is not explained again
    unlike = ("seconds",)  # times are measured anew
    once, twice = (metrics(tmp_path / name) for name in ("whole", "run"))
    assert {k: v for k, v in once.items() if k[1] not in unlike} == {
        k: v for k, v in twice.items() if k[1] not in unlike
    }
    assert not (tmp_path / "run/progress").exists()


@pytest.mark.usefixtures("plain_figures")
def test_a_killed_evaluation_does_not_go_on_with_other_settings(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("saliency_vae.evaluation.pipeline.assess_uncertainty", stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(*DIGITS, CHEAP)
    with pytest.raises(SystemExit, match=r"steps=6\. Found steps=5\. Another hydra\.run\.dir"):
        run(*DIGITS, CHEAP, "steps=5")


@pytest.mark.usefixtures("plain_figures")
def test_slow_methods_are_scored_on_a_few_images(run: Run, tmp_path: Path) -> None:
    slow = (
        "methods=[explainer,slow,random]",
        "+baselines.slow._target_=tests.commands.test_evaluate.Slow",
    )
    lines = run(*DIGITS, *slow, "slow_passes=20", "slow_images=3")
    rows = metrics(tmp_path / "run")
    assert (rows["slow", "insertion"]["images"], rows["random", "insertion"]["images"]) == (
        "3",
        "8",
    )
    assert float(rows["slow", "passes"]["mean"]) == 30
    assert any("slow: takes 30 passes" in line and "on 3 images" in line for line in lines)
    lines = run(*DIGITS, *slow, "slow_passes=20", "slow_images=0")
    assert not any(method == "slow" for method, _ in metrics(tmp_path / "run"))
    assert any("slow: takes more than 20" in line and "slow_images=N" in line for line in lines)
    few = "methods=[explainer,refined,slow]", "refine_steps=2", "slow_images=0", "slow_passes=30"
    run(*DIGITS, slow[1], *few)
    rows = metrics(tmp_path / "run")
    assert ("slow", "insertion") in rows
    assert float(rows["refined", "passes"]["mean"]) > float(rows["explainer", "passes"]["mean"])


@pytest.mark.usefixtures("plain_figures")
def test_a_quick_evaluation_lowers_settings_and_raises_none(run: Run, tmp_path: Path) -> None:
    run(*DIGITS, CHEAP, *FULL, "quick=true", "steps=3", "corruption_images=100")
    assert "3 steps of insertion" in found(tmp_path / "run")["run_metadata"]["protocol"]
    assert ("random", "srg_inpaint") in metrics(tmp_path / "run")
    assert ("random", "srg_mean") not in metrics(tmp_path / "run")
    assert any("no independent runs" in line for line in found(tmp_path / "run")["left_out"])


@pytest.mark.usefixtures("plain_figures")
def test_some_baseline_is_always_unseen_in_training(run: Run, tmp_path: Path) -> None:
    run(*DIGITS, CHEAP, "baseline_images=[mean]")  # all that the training used
    assert ("random", "srg_inpaint") in metrics(tmp_path / "run")
    run(*DIGITS, CHEAP, "baseline_images=[mean,zero]")
    assert ("random", "srg_inpaint") not in metrics(tmp_path / "run")


@pytest.mark.usefixtures("plain_figures")
def test_an_image_only_explainer_is_a_control(run: Run, tmp_path: Path, directory: Path) -> None:
    run(*DIGITS, "methods=[explainer,image_only]", f"image_only={directory / 'twin'}")
    said = found(tmp_path / "run")
    assert said["roles"]["image_only"] == "control"


def test_a_randomised_classifier_needs_the_settings_of_a_run(error_of: Fail) -> None:
    message = error_of(*DIGITS, CHEAP, "randomised=train")
    assert "Expected randomised=train with an explainer inside the directory of the run" in message


# ---- other data, other methods


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos, the same on every machine; five of them are held out."""
    (tmp_path / "photos").mkdir()
    for index in range(10):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{index}.png")
    return tmp_path / "photos"


def folder(photos: Path) -> list[str]:
    return ["data=image_folder", f"data.root={photos}", "data.validation_fraction=0.5"]


@pytest.mark.usefixtures("plain_figures")
def test_images_without_masks(run: Run, tmp_path: Path, photos: Path) -> None:
    lines = run(*folder(photos), *ALL_CHEAP, *FULL, "reference_images=0")
    rows = metrics(tmp_path / "run")
    assert {method for method, _ in rows} == NAMES - {"oracle"}
    assert not {"iou", "pointing_game", "relevance_mass"} & {metric for _, metric in rows}
    said = found(tmp_path / "run")
    assert (
        said["run_metadata"]["data"]
        == "validation images of image_folder, drawn at random (seed 0)"
    )
    assert any("Pointing game, IoU and relevance: the data have no" in line for line in lines)
    report = (tmp_path / "run/report.html").read_text()
    for line in said["left_out"]:
        assert line.partition("'")[0] in report
    assert any(
        line.startswith("oracle: Expected data with true masks") for line in said["left_out"]
    )


@pytest.mark.usefixtures("plain_figures")
def test_boxes_are_true_masks(run: Run, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "boxes").mkdir()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0)).tolist()
    held = sorted(order[:5])
    for index in range(10):
        width = 51 if index == held[2] else 50
        (tmp_path / f"boxes/{index}.xml").write_text(
            f"<annotation><size><width>{width}</width><height>40</height></size><object><bndbox>"
            "<xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>30</ymax>"
            "</bndbox></object></annotation>"
        )
    run(*folder(photos), CHEAP, f"annotations={tmp_path / 'boxes'}", "tolerance=3")
    rows = metrics(tmp_path / "run")
    assert float(rows["oracle", "iou"]["mean"]) == 1
    assert int(rows["explainer", "iou"]["images"]) == 4
    assert (
        f"1 images, such as {held[2]}: their size is not the one that was annotated."
        in found(tmp_path / "run")["left_out"]
    )


@pytest.mark.usefixtures("plain_figures")
def test_only_what_is_named(run: Run, tmp_path: Path) -> None:
    lines = run(
        *DIGITS,
        "methods=[mine,random]",
        "+baselines.mine._target_=tests.commands.test_evaluate.Mine",
    )
    assert {method for method, _ in metrics(tmp_path / "run")} == {"mine", "random"}
    assert found(tmp_path / "run")["verdicts"] == []
    assert lines[-1].endswith("report.html")


@pytest.mark.usefixtures("plain_figures")
def test_without_captum(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "captum" else find_spec(name, package)

    monkeypatch.setattr("saliency_vae.runtime.extras.find_spec", without)
    run(*DIGITS, *ALL_CHEAP, *FULL, "robustness_images=2")
    used = {method for method, _ in metrics(tmp_path / "run")}
    assert "rise" in used
    assert not used & {"gradient", "occlusion", "deep_lift", "blurred_gradient"}
    left_out = found(tmp_path / "run")["left_out"]
    assert sum("saliency-vae[captum]" in line for line in left_out) == 2


@pytest.mark.usefixtures("plain_figures")
def test_nothing_that_is_not_asked_for(run: Run, tmp_path: Path) -> None:
    off = ("own_mask_images=0", "reference_runs=0", "corruption_images=0", "baseline_images=[blur]")
    left = (*FULL, "gallery=0", "baselines.per_image=null", *off)
    lines = run(*DIGITS, CHEAP, *left)
    said = found(tmp_path / "run")
    assert any("there are no independent runs" in line for line in said["left_out"])
    for line in (
        "per-image optimisation: baselines.per_image is null.",
        "Own mask: measured with own_mask_images=N.",
        "Infidelity and max-sensitivity: measured with robustness_images=N.",
        "Confidence on corrupted images: measured with corruption_images=N.",
        "Insertion and deletion over mean, zero, noise, light_blur, classifier_mean, inpaint, "
        "road: measured with "
        "baseline_images=[blur,mean,zero,noise,light_blur,classifier_mean,inpaint,road].",
    ):
        assert line in said["left_out"]
        assert f"Left out: {line}" in lines
    assert not any(key.startswith("corruption") for key in said["uncertainty"]["curves"])
    rows = metrics(tmp_path / "run")
    assert not any(metric.startswith(("insertion_", "infidelity")) for _, metric in rows)
    assert not (tmp_path / "run/figures/gallery.png").exists()
    assert ("explainer", "own_mask") not in metrics(tmp_path / "run")


def test_what_is_measured_is_saved_before_what_follows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saliency_vae.evaluation.pipeline.assess_uncertainty", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(*DIGITS, CHEAP)
    assert ("oracle", "iou") in metrics(tmp_path / "run")
    assert found(tmp_path / "run")["run_metadata"]["data"] == "test images of cluttered_digits"
    with np.load(tmp_path / "run/curves.npz") as arrays:
        assert arrays["insertion/explainer"].shape == (8, 7)


@pytest.mark.usefixtures("plain_figures")
def test_one_image(run: Run, tmp_path: Path) -> None:
    run(*DIGITS, CHEAP, "limit=1")
    assert metrics(tmp_path / "run")["explainer", "insertion"]["images"] == "1"


@pytest.mark.usefixtures("plain_figures")
def test_another_classifier_is_said_to_be_one(run: Run, tmp_path: Path, directory: Path) -> None:
    run(
        *DIGITS,
        CHEAP,
        "classifier=cluttered_digits",
        f"classifier.path={directory / 'b.safetensors'}",
        "classifier.image_size=32",
        "classifier.train_size=64",
        "classifier.epochs=1",
        f"classifier.seed={ord('b')}",
        "force=true",
        "limit=4",
    )
    assert found(tmp_path / "run")["verdicts"][0]["text"].startswith("Forced: the explainer was")


@pytest.mark.usefixtures("plain_figures")
def test_results_go_to_wandb_too(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[Any, ...]] = []
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(
        "saliency_vae.evaluation.report.wandb_tables.log_results",
        lambda *given: logged.append(given),
    )
    assert run(*DIGITS, CHEAP, "limit=3")[-1] == str(tmp_path / "run/report.html")
    assert logged == []
    run(*DIGITS, CHEAP, "limit=3", "wandb=true")
    ((logger, results, drawn, report),) = logged
    assert report == tmp_path / "run/report.html"
    assert logger._wandb_init["mode"] == "offline"
    assert logger.save_dir == str(tmp_path / "run")
    assert results.scores.methods == ["explainer", "random", "oracle"]
    assert set(drawn) == {"curves", "speed", "gallery"}


@pytest.mark.usefixtures("plain_figures")
def test_a_command_leaves_the_programs_loggers_as_they_are(run: Run) -> None:
    logger = logging.getLogger("saliency_vae.data.image_file_datamodule")
    run(*DIGITS, "methods=[random]", "limit=1")
    assert not logger.disabled


def test_other_normalisation_is_another_classifier(directory: Path) -> None:
    explainer = load_explainer(directory / "mine")
    classifier = explainer.classifier
    assert note_other_classifier(explainer, classifier) == []
    classifier.mean.add_(0.1)
    assert note_other_classifier(explainer, classifier)[0].text.startswith("Forced: ")


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["methods=[explainer,gradeint]"], "Found gradeint. Did you mean gradient?"),
        (["methods=[]"], "Found none."),
        (
            ["methods=[ours,random]"],
            "Expected explainer among methods, the new name of ours. Found ours, random.",
        ),
        (["steps=0"], "Expected steps >= 1"),
        (
            ["baseline_images=[nose]"],
            "Expected baseline_images among blur, mean, zero, noise, light_blur, classifier_mean, "
            "inpaint, road. Found nose.",
        ),
        (["limit=0"], "Expected limit >= 1 image. Found 0."),
        (["batch_size=0"], "Expected batch_size >= 1. Found 0."),
        (["reference_steps=0"], "Expected reference_steps >= 1. Found 0."),
        (["gallery=-1"], "Expected gallery >= 0. Found -1."),
        (["explainer=/nowhere"], "Expected /nowhere to be an explainer's directory"),
        (["annotations=/nowhere"], "Expected annotations of image files. Found Subset"),
        (["stepz=3"], "Did you mean steps?"),
        (["baselines.rise.mask=3"], "mask"),
        (["+baselines.mine._target_=no.such.Thing"], "no.such.Thing"),
    ],
)
def test_wrong_settings_end_with_one_line(
    arguments: list[str], message: str, error_of: Fail
) -> None:
    assert message.replace("Subset", "ClutteredDigits") in error_of(*DIGITS, *arguments)


def test_data_must_be_named(error_of: Fail) -> None:
    assert "Expected data=GROUP" in error_of()


def test_an_unusable_method_that_is_named_is_an_error(error_of: Fail, photos: Path) -> None:
    message = error_of(*folder(photos), "methods=[explainer,oracle]")
    assert "Expected data with true masks for the oracle" in message


def test_explainers_of_the_wrong_classifier_are_refused(error_of: Fail, directory: Path) -> None:
    ensemble = f"ensemble=[{directory / 'other'}]"
    assert "of the same classifier" in error_of(*DIGITS, CHEAP, *FULL, ensemble)
    randomised = f"randomised={directory / 'twin'}"
    assert "of another classifier than the evaluated explainer" in error_of(
        *DIGITS, CHEAP, randomised
    )


def test_help_says_what_each_setting_is() -> None:
    text = (Path(config_dir()) / "evaluate.yaml").read_text().partition("header: |")[2]
    described = set(re.findall(r"^ {6}(\w+) {2,}\S", text, re.MULTILINE))
    assert {field.name for field in fields(EvaluateConfig)} - described <= {"baselines"}
