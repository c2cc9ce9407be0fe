"""A training on two devices knows what the validation images of both are like."""

from pathlib import Path

import torch

from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.models import load_explainer
from tests.commands.test_train import tiny
from tests.faults.small_run import run_alone
from tests.faults.test_processes import free_port
from tests.faults.two_processes import run_on_two


def test_the_depth_is_that_of_all_validation_images(tmp_path: Path) -> None:
    log = tmp_path / "log"
    settings = [
        *tiny(tmp_path)[1:],  # of another experiment
        "experiment=cluttered_digits_image",
        "data.train_size=32",
        "data.val_size=24",
        "trainer.max_epochs=1",
        "logger=csv",
        f"hydra.run.dir={tmp_path}/run",
    ]
    assert run_alone(run_on_two, tmp_path, free_port(), *settings, output=log) == 0, log.read_text()
    network = load_explainer(tmp_path / "run").confidence
    assert network is not None
    images = ClutteredDigits("val", 24, image_size=32).images / 255
    features = network.features(images)
    torch.testing.assert_close(network.depth.centre, features.mean(0), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(network.depth.centre, features[::2].mean(0), rtol=1e-3, atol=1e-4)
    assert network.depth.is_known
