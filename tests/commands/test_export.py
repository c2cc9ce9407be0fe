"""The exported graphs, held against the explainer that they were made from."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import timm
import torch
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.export import export
from saliency_vae.exporting import LoadedExport, load_export
from saliency_vae.exporting.checked_export import compare, in_contiguous_memory, write_export
from saliency_vae.exporting.formats import FORMATS, Run
from saliency_vae.exporting.graph import ExplainerGraph, TracedGraph
from saliency_vae.exporting.pipeline import class_weights, describe
from saliency_vae.models import Explainer, load_explainer, save_explainer
from saliency_vae.runtime import extras
from saliency_vae.training.depth import fit_depth
from tests.conftest import blobs
from tests.helpers import tiny_classifier, tiny_universal
from tests.models.test_explainer import (
    CONDITIONAL,
    PAPER,
    UNET,
    configuration,
    random_images,
    trained_explainer,
)

HEIGHT, WIDTH = 20, 33


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    explainer = trained_explainer(encoder=PAPER, image_size=[HEIGHT, WIDTH])
    save_explainer(explainer, tmp_path / "explainer")
    return tmp_path / "explainer"


def write(explainer: Explainer, output: Path, name: str) -> tuple[Run, float]:
    """Export an explainer: what was loaded to compare it, and the difference that was found."""
    loaded: list[Run] = []  # to load it once more takes seconds

    def load(path: Path) -> Run:
        loaded.append(FORMATS[name].load(path))
        return loaded[-1]

    form = replace(FORMATS[name], load=load)
    agreement = write_export(explainer, output, form, height=HEIGHT, width=WIDTH)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    (run,) = loaded
    assert agreement.rank_correlation > 0.999
    return run, agreement.difference


def exported(tmp_path: Path, name: str, **parts: Any) -> Path:
    """Save, load, export and check an explainer that knows its depth; returns the file."""
    trained = trained_explainer(**parts)
    assert trained.confidence is not None
    fit_depth(trained.confidence.depth, trained.confidence.features(enlarged(40)).detach())
    save_explainer(trained, tmp_path / "explainer")
    explainer = load_explainer(tmp_path / "explainer")
    output = tmp_path / "new" / f"exported{FORMATS[name].suffix}"
    check(explainer, *write(explainer, output, name))
    return output


def enlarged(number: int) -> Tensor:
    """So many images like those that the explainer knows."""
    return nn.functional.interpolate(blobs(number), (HEIGHT, WIDTH))


def check(explainer: Explainer, run: Run, difference: float) -> None:
    assert difference < 1e-4
    for size in (1, 2, 5):
        images = random_images(size, 3, HEIGHT, WIDTH)
        mean, stddev, confidence, *depth = (torch.as_tensor(answer) for answer in run(images))
        posterior = explainer(images)
        if explainer.confidence is not None and explainer.confidence.depth.is_known:
            assert depth[0].tolist() == posterior.out_of_depth.tolist() == [True] * size
            known = explainer(enlarged(size)).out_of_depth
            assert torch.as_tensor(run(enlarged(size))[3]).tolist() == known.tolist()
            assert not known.all() or size == 1
        else:
            assert not depth
        assert mean.dtype == stddev.dtype == torch.float32
        torch.testing.assert_close(mean, posterior.mean, rtol=0, atol=1e-4)
        torch.testing.assert_close(stddev, posterior.stddev, rtol=0, atol=1e-4)
        torch.testing.assert_close(confidence, posterior.confidence, rtol=0, atol=1e-3)
        assert mean.std() > 0.01


@pytest.mark.parametrize(("encoder", "posterior"), [(UNET, "mean_field"), (PAPER, "correlated")])
def test_onnx_answers_as_the_explainer_at_any_batch(
    tmp_path: Path, encoder: dict[str, Any], posterior: str
) -> None:
    output = exported(tmp_path, "onnx", encoder=encoder, posterior=posterior)
    model = onnx.load(output, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    (images,) = model.graph.input
    shapes = {
        value.name: [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        for value in (images, *model.graph.output)
    }
    batch = shapes["images"][0]
    assert isinstance(batch, str)
    assert shapes == {
        "images": [batch, 3, HEIGHT, WIDTH],
        "mean": [batch, HEIGHT, WIDTH],
        "stddev": [batch, HEIGHT, WIDTH],
        "confidence": [batch],
        "out_of_depth": [batch],
    }


@pytest.mark.parametrize(("encoder", "posterior"), [(UNET, "correlated"), (PAPER, "mean_field")])
def test_torch_export_answers_as_the_explainer_at_any_batch(
    tmp_path: Path, encoder: dict[str, Any], posterior: str
) -> None:
    exported(tmp_path, "torch_export", encoder=encoder, posterior=posterior)


@pytest.mark.parametrize("wrong", ["values", "shapes", "not a number"])
def test_a_wrong_export_leaves_what_was_there(directory: Path, tmp_path: Path, wrong: str) -> None:
    def answer(images: Tensor) -> list[Tensor]:
        explainer = load_explainer(directory)
        posterior = explainer(images)
        mean, stddev, confidence = posterior.mean, posterior.stddev, posterior.confidence
        if wrong == "values":
            return [mean, stddev + 2e-4, confidence]
        if wrong == "shapes":
            return [mean, stddev, confidence[:1]]
        return [mean, stddev, confidence * torch.nan]

    form = replace(FORMATS["torch_export"], load=lambda path: answer)
    output = tmp_path / "out" / "explainer.pt2"
    output.parent.mkdir()
    output.write_text("earlier")
    with pytest.raises(
        ValueError, match=r"agree with PyTorch on \w+ within 0\.\d+.*nothing was written"
    ):
        write_export(load_explainer(directory), output, form, height=HEIGHT, width=WIDTH)
    assert output.read_text() == "earlier"
    assert list(output.parent.iterdir()) == [output]


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["export.py", *arguments])
    export()


def error_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with pytest.raises(SystemExit) as info:
        run_here(monkeypatch, *arguments)
    message = str(info.value)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_the_command_writes_one_file_beside_the_explainer_and_says_so(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    run_here(monkeypatch, "explainer=explainer", "format=onnx")
    assert files(tmp_path) - before == {"explainer/explainer.onnx"}
    printed, complained = capfd.readouterr()
    assert complained == ""
    lines = printed.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("explainer/explainer.onnx (0.")
    assert "images: float32 (batch, 3, 20, 33)" in lines[1]
    assert "mean, stddev: float32 (batch, 20, 33)" in lines[2]
    assert float(lines[4].rpartition(" ")[2]) < 1e-4
    check_loaded(load_export("explainer/explainer.onnx"), load_explainer(directory))


def check_loaded(loaded: LoadedExport, explainer: Explainer) -> None:
    """Right images are explained, wrong ones refused in one line; the graph itself says NaN."""
    height, width = loaded.metadata["image_size"]
    assert loaded.metadata["target"] == "decision"
    assert loaded.metadata["version"]
    images = random_images(3, 3, height, width)
    found = loaded(images)
    assert {name: tuple(answer.shape) for name, answer in found.items()} == {
        "mean": (3, height, width),
        "stddev": (3, height, width),
        "confidence": (3,),
    }
    torch.testing.assert_close(found["mean"], explainer(images).mean, rtol=0, atol=1e-4)
    images[1] *= 255
    raw = [torch.as_tensor(answer) for answer in loaded.run(images)]
    for answer in raw:
        assert answer.reshape(3, -1).isnan().all(1).tolist() == [False, True, False]
    with pytest.raises(ValueError, match=r"Expected images in \[0, 1\]. Found values from "):
        loaded(images)
    with pytest.raises(ValueError, match=rf"Expected float32 images \(B, 3, {height}, {width}\)"):
        loaded(images[:, :, 1:])


def test_what_was_not_exported_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_text("not a graph")
    with pytest.raises(ValueError, match=r"to be a file that .* wrote"):
        load_export(tmp_path / "a.pt2")
    with pytest.raises(ValueError, match="Expected format onnx or torch_export"):
        load_export(tmp_path / "a.pt")


def test_the_command_exports_from_the_hub_to_the_current_directory(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "saliency_vae.models.serialization.snapshot_download", lambda *_, **__: directory
    )
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_here(monkeypatch, "explainer=owner/name", "format=torch_export", "image_size=[16,24]")
    assert files(tmp_path / "here") == {"explainer.pt2"}
    check_loaded(load_export("explainer.pt2"), load_explainer(directory))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["format=tflite"], "Expected format onnx or torch_export. Found 'tflite'."),
        (["image_size=[8,20]"], "H, W >= 16"),
        (["image_size=[20]"], "Expected image_size=[HEIGHT,WIDTH]. Found [20]."),
        (["output=model.pt2"], "Expected output to end in .onnx. Found model.pt2."),
        (["explainer=nowhere"], "nowhere"),
        (["imagesize=[20,20]"], "Did you mean image_size?"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert expected in error_of(monkeypatch, f"explainer={directory}", *arguments)
    assert files(tmp_path) == before


def test_an_explainer_of_unknown_image_size_asks_for_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((directory / "config.json").read_text())
    del config["image_size"]
    (directory / "config.json").write_text(json.dumps(config))
    message = error_of(monkeypatch, f"explainer={directory}")
    assert "Expected image_size=[HEIGHT,WIDTH]. Found None." in message


def conditional_explainer(
    network: nn.Module, levels: Sequence[float] = (1.0,), **parts: Any
) -> Explainer:
    """An explainer whose encoder is conditioned on a classifier with this network.

    To trace the gradients of another level takes about as long as all the rest.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = CONDITIONAL | {"prior_mean_scale": 0.5, "levels": list(levels)}
        explainer = Explainer.from_config(configuration(encoder=encoder, **parts))
        classifier = FrozenClassifier(network, name="mine", mean=[0.5] * 3)
        explainer.find_features(classifier, random_images(2, 3, HEIGHT, WIDTH))
        nn.init.normal_(explainer.get_parameter("encoder.unet.head.weight"), std=0.2)
    return explainer.attach_classifier(classifier).eval().requires_grad_(False)


def transposed() -> nn.Module:
    """A network with a convolution whose gradient ONNX lacks."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.ConvTranspose2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


@pytest.mark.parametrize(
    ("name", "posterior", "network", "levels"),
    [
        ("onnx", "mean_field", tiny_classifier.build, (0.5, 1.0)),
        ("torch_export", "correlated", transposed, (1.0,)),
    ],
)
def test_a_conditional_explainer_is_exported_with_its_classifier_and_stays_channels_last(
    tmp_path: Path,
    name: str,
    posterior: str,
    network: Callable[[], nn.Module],
    levels: Sequence[float],
) -> None:
    torch.manual_seed(0)
    explainer = conditional_explainer(network(), levels, posterior=posterior, confidence=None)
    explainer.to(memory_format=torch.channels_last)
    explainer.classifier.to(memory_format=torch.channels_last)
    output = tmp_path / f"exported{FORMATS[name].suffix}"
    check(explainer, *write(explainer, output, name))
    for weights in (*explainer.parameters(), *explainer.classifier.parameters()):
        if weights.ndim == 4:
            assert weights.is_contiguous(memory_format=torch.channels_last)


def test_a_size_that_the_classifier_does_not_take_is_one_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(18 * 31 * 4, 3))
    explainer = conditional_explainer(network)
    with pytest.raises(ValueError, match=r"Expected image_size .* Found \[24,24\]") as info:
        write_export(explainer, tmp_path / "a.onnx", FORMATS["onnx"], height=24, width=24)
    assert "\n" not in str(info.value)
    assert not list(tmp_path.iterdir())
    universal = tiny_universal.build(FrozenClassifier(network, name="own", categories=[*"abc"]))
    with pytest.raises(ValueError, match=r"Expected image_size .* Found \[24,24\]"):
        class_weights(universal, "b", random_images(1, 3, 24, 24))


def test_a_size_that_the_classifier_asserts_is_one_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, embed_dim=8, num_heads=2, depth=1, num_classes=3
    )
    explainer = tiny_universal.build(FrozenClassifier(network, name="own", categories=[*"abc"]))
    with pytest.raises(ValueError, match=r"Expected image_size .* Found \[48,48\]"):
        write_export(explainer, tmp_path / "a.pt2", FORMATS["torch_export"], height=48, width=48)
    assert not list(tmp_path.iterdir())


def test_a_gradient_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    """The other format, which has it, is tested above."""
    explainer = conditional_explainer(transposed())
    with pytest.raises(ValueError, match=r"convolution_backward.*format=torch_export") as info:
        write_export(explainer, tmp_path / "a.onnx", FORMATS["onnx"], height=HEIGHT, width=WIDTH)
    assert "\n" not in str(info.value)
    assert not list(tmp_path.iterdir())


def test_one_class_is_traced_with_its_classifier() -> None:
    """The graph, which then is written as any other."""
    torch.manual_seed(0)
    classifier = FrozenClassifier(tiny_classifier.build(), name="tiny", categories=[*"abcdefghij"])
    explainer = tiny_universal.build(classifier, copies=1, members=2, output_stride=2)
    images = random_images(3, 3, HEIGHT, WIDTH)
    asked, other = (explainer(images, name).mean for name in "cd")
    target = class_weights(explainer, "c", images[:1])
    traced = in_contiguous_memory(explainer)  # a copy, which keeps what it is traced with
    graph = TracedGraph(ExplainerGraph(traced, target), images[:2])
    mean = graph(images)[0]
    torch.testing.assert_close(mean, asked, rtol=0, atol=1e-4)
    assert (mean - other).abs().max() > 1e-3
    description = describe(explainer, (HEIGHT, WIDTH), "c")
    assert description["target"] == "c"
    assert description["categories"] == [*"abcdefghij"]
    with pytest.raises(ValueError, match="no class called 'z'"):
        class_weights(explainer, "z", images[:1])


def test_maps_that_are_ordered_alike_are_accepted_of_gradients_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(2, 8, 8, generator=generator)
    expected = [mean, mean, torch.rand(2, generator=generator)]
    moved = [torch.where(mean == mean.max(), mean + 0.3, mean), mean, expected[2]]
    agreement = compare([expected], [moved], by_rank=True)
    assert agreement.difference == pytest.approx(0.3)
    assert agreement.rank_correlation > 0.99
    with pytest.raises(ValueError, match="agree with PyTorch on mean"):
        compare([expected], [moved], by_rank=False)
    with pytest.raises(ValueError, match="agree with PyTorch on mean"):
        compare([expected], [[1 - mean, mean, expected[2]]], by_rank=True)


def test_without_the_packages_of_onnx_the_other_format_is_written_where_it_is_told(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxruntime" else name)
    message = error_of(monkeypatch, f"explainer={directory}")
    assert "Not found: onnxruntime: pip install 'saliency-vae[onnx]'." in message
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    run_here(monkeypatch, f"explainer={directory}", "format=torch_export", "output=a b/[model].pt2")
    assert files(tmp_path) - before == {"a b", "a b/[model].pt2"}
