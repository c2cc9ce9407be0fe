"""Explanation and export on the device, against those of the CPU."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.export.passes import move_to_device_pass

from saliency_vae import load_explainer, load_explanations
from saliency_vae.explain import explain
from saliency_vae.export import export
from tests.faults.made import make_explainer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("plain_float32")]
SIZE = 32
TOLERANCE = 1e-3  # of means and deviations, which are about 1


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.cpu(), expected, rtol=TOLERANCE, atol=TOLERANCE)


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


def test_an_explanation_is_that_of_the_cpu(trained: Path, device: torch.device) -> None:
    with torch.no_grad():
        expected = load_explainer(trained)(images())
        found = load_explainer(trained).to(device)(images().to(device))
        assert found.mean.device.type == device.type
        for name in ("mean", "stddev", "confidence"):
            there, here = getattr(found, name).cpu(), getattr(expected, name)
            close(there, here)
        inclusion = found.inclusion_probability(0.1).cpu()
        torch.testing.assert_close(
            inclusion, expected.inclusion_probability(0.1), atol=1e-2, rtol=0
        )
        same = found.topk_mask(0.1).cpu() == expected.topk_mask(0.1)
        assert same.float().mean() > 0.99  # but for pixels that are all but equal
        assert found.rsample((2,)).device.type == device.type


def test_refinement_lowers_the_objective(trained: Path, device: torch.device) -> None:
    explainer = load_explainer(trained).to(device)
    refined = explainer.refine(images().to(device), explainer.classifier, steps=20, seed=0)
    assert refined.posterior.mean.device.type == device.type
    assert (refined.after <= refined.before + 1e-3).all()


def test_the_command_explains(
    trained: Path, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = (images() * 255).byte().permute(0, 2, 3, 1).numpy()
    (tmp_path / "images").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"images/{index}.png")
    maps = {}
    for name in {"cpu", device.type}:
        given = [f"explainer={trained}", f"images={tmp_path}/images", "samples=2", f"device={name}"]
        monkeypatch.setattr(sys, "argv", ["explain.py", *given, f"output_dir={tmp_path}/{name}"])
        explain()
        maps[name] = torch.from_numpy(load_explanations(tmp_path / name)["0.png"]["mean"])
    close(maps[device.type].float(), maps["cpu"].float())


@pytest.mark.parametrize("conditional", [False, True])
def test_an_exported_graph_runs_on_the_device(
    conditional: bool,
    trained: Path,
    device: torch.device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    explainer = trained if conditional else make_explainer(tmp_path)
    path = tmp_path / "explainer.pt2"
    given = [f"explainer={explainer}", "format=torch_export", f"output={path}"]
    monkeypatch.setattr(sys, "argv", ["export.py", *given, f"image_size=[{SIZE},{SIZE}]"])
    export()
    program = move_to_device_pass(torch.export.load(path), str(device))
    with torch.no_grad():
        expected = load_explainer(explainer)(images())
        mean, stddev, _ = program.module()(images().to(device))
    assert mean.device.type == device.type
    close(mean, expected.mean)
    close(stddev, expected.stddev)
