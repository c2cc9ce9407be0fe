"""Cut-outs on photographs, from training to the report of an evaluation."""

import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from saliency_vae.evaluate import evaluate
from saliency_vae.evaluation.randomised import overrides_of
from saliency_vae.train import train
from tests.helpers.made_cutouts import write_all
from tests.helpers.red_classifier import RedClassifier

SMALL = (
    "data.image_size=32",
    "data.objects=[1,2]",
    "data.sizes={train:16,val:8,test:10}",
    "data.batch_size=8",
    "data.num_workers=0",
    "data.test_portion=2",
)


@pytest.mark.usefixtures("plain_panels", "plain_figures")
def test_train_and_evaluate_on_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "red.safetensors"
    save_file(RedClassifier().state_dict(), weights)
    data = (*write_all(tmp_path / "photographs"), *SMALL)
    classifier = (
        "classifier=custom",
        "classifier.module=tests.helpers.red_classifier.RedClassifier",
        f"classifier.weights={weights}",
        "classifier.mean=[0,0,0]",
        "classifier.std=[1,1,1]",
    )
    trained = ("experiment=photographs", *data, *classifier, "encoder.channels=[4,8]")
    trainer = ("trainer.accelerator=cpu", "trainer.max_epochs=1", "logger=csv")
    monkeypatch.setattr(sys, "argv", ["-", *trained, *trainer, f"hydra.run.dir={tmp_path}/run"])
    train()
    config = json.loads((tmp_path / "run/explainer/config.json").read_text())
    assert config["data"]["type"] == "cutouts"
    assert {"test/pointing_game", "test/iou"} <= config["metrics"].keys()

    # What randomised=train would train in a process of its own, which starts slowly.
    again = (*overrides_of(tmp_path / "run/explainer"), "randomise_classifier=true")
    monkeypatch.setattr(
        sys, "argv", ["-", *again, f"hydra.run.dir={tmp_path}/evaluation/randomised"]
    )
    train()

    asked = (
        "methods=[explainer,gradient,oracle]",
        "limit=6",
        "reference_images=0",
        "posterior_images=2",
        "gallery=2",
    )
    fast = ("corruption_images=0", "own_mask_images=0", "steps=4", "baseline_images=[blur]")
    given = (f"explainer={tmp_path}/run/explainer", "data=cutouts", *data, *classifier)
    run = ("randomised=train", f"hydra.run.dir={tmp_path}/evaluation")
    monkeypatch.setattr(sys, "argv", ["-", *given, *asked, *fast, *run])
    evaluate()
    found = json.loads((tmp_path / "evaluation/metrics.json").read_text())
    pointing = {row["method"]: row for row in found["metrics"] if row["metric"] == "pointing_game"}
    assert pointing["oracle"]["mean"] == 1
    assert pointing["oracle"]["images"] == 6
    assert any("for a randomised classifier" in verdict["text"] for verdict in found["verdicts"])
    assert any("6 of " in line and "scenes" in line for line in found["left_out"])
