"""A run from before version 0.1.0, with old names in its checkpoint, ends the same when resumed."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saliency_vae.cli.resumed_overrides import with_overrides_of_run
from saliency_vae.models import load_explainer
from saliency_vae.train import train

ROOT = Path(__file__).parents[2]
SAVED = ROOT / "tests/data/saved_before_0_1_0"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A copy of the run, whose best checkpoint was not kept: its last takes that place."""
    run = tmp_path / "run"
    shutil.copytree(SAVED / "run", run)
    shutil.copyfile(run / "checkpoints/last.ckpt", run / "checkpoints/best.ckpt")
    return run


@pytest.mark.usefixtures("plain_panels")
def test_it_ends_with_the_weights_that_the_old_code_ended_with(
    old_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)  # the settings of the run hold paths from there
    resume = ["ckpt_path=last", "trainer.max_epochs=2", f"hydra.run.dir={old_run}"]
    monkeypatch.setattr(sys, "argv", ["train.py", *with_overrides_of_run(resume)])
    train()
    resumed = torch.load(old_run / "checkpoints/last.ckpt", weights_only=True)
    expected = load_file(SAVED / "resumed.safetensors")
    assert resumed["epoch"] == 1
    new = {f"explainer.confidence.depth.{name}" for name in ("centre", "precision", "farthest")}
    assert resumed["state_dict"].keys() == expected.keys() | new
    for name, values in expected.items():
        torch.testing.assert_close(resumed["state_dict"][name], values, rtol=0, atol=1e-5)
    assert "mean_penalty=0.25" in resumed["overrides"]
    assert "encoder.prior_mean_scale=0.15" in resumed["overrides"]
    assert load_explainer(old_run / "explainer").config.mean_penalty == 0.25
