"""The commands on the accelerator, tiny."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from saliency_vae import FrozenClassifier, load_explainer, load_explanations
from saliency_vae.evaluate import evaluate
from saliency_vae.explain import explain
from saliency_vae.train import train
from tests.commands.test_evaluate import (
    ALL_CHEAP,
    DIGITS,
    NAMES,
    Run,
    directory,
    metrics,
    run,
)
from tests.commands.test_photographs import SMALL as CUTOUTS
from tests.conftest import one_thread
from tests.devices import accelerator
from tests.helpers.made_cutouts import photograph, write_all
from tests.helpers.red_classifier import RedClassifier
from tests.helpers.tiny_classifier import build

__all__ = ["directory", "one_thread", "run"]

ON = f"device={accelerator.NAME}"


@pytest.mark.usefixtures("plain_figures")
def test_evaluate_digits(run: Run, tmp_path: Path, directory: Path) -> None:
    """All methods, and what is measured of an explainer that knows its classifier alone."""
    run(
        *DIGITS,
        *ALL_CHEAP,
        ON,
        "data.test_size=2",
        "data.val_size=2",
        "data.train_size=8",
        "data.batch_size=4",
        "batch_size=2",
        "steps=2",
        "gallery=1",
        "own_mask_images=1",
        "reference_images=1",
        "posterior_images=1",
        "grid_questions=1",
        "corruption_images=2",
        "baseline_images=[blur]",
        "eval_x_steps=1",
        f"randomised={directory / 'other'}",
        f"ensemble=[{directory / 'twin'}]",
        f"explainer={directory / 'mine'},{directory / 'twin'}",
    )
    assert {method for method, _ in metrics(tmp_path / "run")} == NAMES | {"twin"}


class RedWithFeatures(RedClassifier):
    """A classifier of red whose feature maps an encoder can see."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        self.features(images)
        return super().forward(images)


@pytest.mark.usefixtures("plain_panels", "plain_figures")
def test_evaluate_cutouts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier-conditioned explainer, all baseline images, and robustness."""
    monkeypatch.setattr("saliency_vae.evaluation.robustness.DRAWS", 2)
    weights = tmp_path / "red.safetensors"
    save_file(RedWithFeatures().state_dict(), weights)
    data = (*write_all(tmp_path / "photographs"), *CUTOUTS)
    classifier = (
        "classifier=custom",
        "classifier.module=tests.devices.commands.RedWithFeatures",
        f"classifier.weights={weights}",
        "classifier.mean=[0,0,0]",
        "classifier.std=[1,1,1]",
    )
    trained = ("experiment=photographs", *data, *classifier, "encoder.channels=[4,8]")
    trainer = ("trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=csv")
    monkeypatch.setattr(sys, "argv", ["-", *trained, *trainer, f"hydra.run.dir={tmp_path}/run"])
    train()
    given = (f"explainer={tmp_path}/run/explainer", "data=cutouts", *data, *classifier, ON)
    methods = "methods=[explainer,zeroed_signals,randomised_signals,gradient,oracle]"
    every = "baseline_images=[blur,mean,zero,noise,light_blur,classifier_mean,inpaint,road]"
    few = (
        "limit=2",
        "steps=2",
        "gallery=1",
        "reference_images=1",
        "posterior_images=1",
        "reference_steps=1",
        "robustness_images=1",
    )
    run = f"hydra.run.dir={tmp_path}/evaluation"
    monkeypatch.setattr(sys, "argv", ["-", *given, methods, every, *few, "eval_x_steps=1", run])
    evaluate()
    measured = metrics(tmp_path / "evaluation")
    assert {("gradient", "insertion_road"), ("gradient", "infidelity")} <= measured.keys()


def test_explain(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(2):
        photograph(index, (32, 32)).save(tmp_path / f"{index}.png")
    given = (f"explainer={directory / 'mine'}", f"images={tmp_path}", ON)
    settings = ("refine_steps=1", "samples=2", f"output_dir={tmp_path}/explained", "num_workers=0")
    monkeypatch.setattr(sys, "argv", ["-", *given, *settings])
    explain()
    assert "1.png" in load_explanations(tmp_path / "explained")


def margin(logits: Tensor) -> Tensor:
    return logits[:, 0] - logits[:, 1]


@pytest.mark.parametrize("target", [None, 3, margin], ids=("decision", "class", "score"))
def test_explain_in_python(target: object) -> None:
    explainer = load_explainer("universal", FrozenClassifier(build())).to(accelerator.NAME)
    found = explainer.explain(torch.rand(3, 32, 32, device=accelerator.NAME), target, samples=1)
    assert found.maps.device.type == "cpu"
    assert found.is_finite()
    assert found.mean.shape == found.samples.shape[1:] == (32, 32)
