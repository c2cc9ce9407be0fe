"""Evaluation on the device, against that of the CPU."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluate import evaluate
from tests.baselines.test_baselines import all_methods, make_batch, make_classifier
from tests.faults.made import DIGITS

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("plain_float32")]
# Without numbers of their own, which each device draws differently.
SAME = (
    *("gradient", "input_x_gradient", "integrated_gradients", "deep_lift", "lrp"),
    *("guided_backprop", "grad_cam", "layer_cam", "score_cam", "occlusion", "edge_magnitude"),
)
# Small numbers of everything.
SMALL = (
    *(
        "batch_size=5",
        "steps=6",
        "gallery=3",
        "own_mask_images=4",
        "reference_images=3",
        "posterior_images=3",
    ),
    *("reference_runs=2", "reference_steps=2", "slow_images=null"),
)
CHEAP = (
    "baselines.integrated_gradients.n_steps=3",
    "baselines.smoothgrad.samples=2",
    "baselines.vargrad.samples=2",
    "baselines.occlusion.stride=0.125",
    "baselines.rise.masks=8",
    "baselines.per_image.steps=1",
    "baselines.gradient_shap.samples=2",
    "baselines.kernel_shap.samples=20",
    "baselines.kernel_shap.segments=6",
    "baselines.optimised_mask.steps=1",
    "baselines.region_search.segments=4",
)
NO_CHECKS = ("robustness_images=0", "grid_questions=0", "two_object_images=0")


def explained(name: str, classifier: FrozenClassifier, device: torch.device) -> torch.Tensor:
    batch: Batch = {"image": make_batch()["image"].to(device)}
    maps: torch.Tensor = all_methods()[name](batch, classifier.to(device))
    assert maps.device.type == device.type
    return maps.cpu()


@pytest.mark.parametrize("name", SAME)
def test_maps_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    expected = explained(name, make_classifier(), torch.device("cpu"))
    found = explained(name, make_classifier(), device)
    largest = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * largest)


def metrics(run: Path) -> dict[tuple[str, str], float]:
    with (run / "metrics.csv").open(newline="") as file:
        return {(row["method"], row["metric"]): float(row["mean"]) for row in csv.DictReader(file)}


def evaluated(
    trained: Path, run: Path, device: str, patch: pytest.MonkeyPatch, *settings: str
) -> dict[tuple[str, str], float]:
    where = [f"explainer={trained}", f"hydra.run.dir={run}", f"device={device}"]
    patch.setattr(sys, "argv", ["evaluate.py", *where, *DIGITS, *SMALL, *settings])
    evaluate()
    assert (run / "report.html").is_file()
    return metrics(run)


def test_scores_are_those_of_the_cpu(
    trained: Path, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = "methods=[explainer,gradient,grad_cam,occlusion,centre_prior,oracle]"
    cheap = [
        *NO_CHECKS,
        "baseline_images=[blur]",
        "reference_images=0",
        "posterior_images=0",
        "corruption_images=0",
    ]
    expected, found = (
        evaluated(trained, tmp_path / name, name, monkeypatch, methods, *cheap)
        for name in ("cpu", device.type)
    )
    assert found.keys() == expected.keys()
    for (method, metric), value in expected.items():
        if metric in ("insertion", "deletion"):  # others count pixels or images: one may differ
            assert found[method, metric] == pytest.approx(value, abs=5e-3), (method, metric)


def test_every_method_and_check(
    trained: Path, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = ["robustness_images=2", "grid_questions=4", "eval_x_steps=2", "corruption_images=2"]
    found = evaluated(trained, tmp_path, device.type, monkeypatch, *CHEAP, *checks)
    methods = {method for method, _ in found}
    assert {*SAME, "explainer", "rise", "kernel_shap", "optimised_mask", "per_image"} <= methods
