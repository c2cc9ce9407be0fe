"""Export an explainer as one graph that runs without this package.

python -m saliency_vae.export explainer=DIR format=onnx
python -m saliency_vae.export explainer=DIR format=torch_export output=explainer.pt2
python -m saliency_vae.export explainer=OWNER/NAME format=onnx image_size=[224,224]

An explainer that asks its classifier is exported with it.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from saliency_vae.command import command
from saliency_vae.configuration import Node
from saliency_vae.encoders import MINIMUM_SIZE
from saliency_vae.explained_classifier import explained_classifier
from saliency_vae.explainer import Explainer, load_explainer
from saliency_vae.graph import Graph, Traced

INPUT = "images"
# Largest difference between the exported graph and PyTorch; one pixel more or less among the top
# 5 %, where two are all but equal, moves the confidence.
TOLERANCES = {"mean": 1e-4, "stddev": 1e-4, "confidence": 1e-2}
OUTPUTS = tuple(TOLERANCES)
_BATCHES = (1, 2, 5)  # that they are compared at

Run = Callable[[Tensor], Sequence[Any]]


@dataclass(frozen=True)
class Format:
    """A way to export.

    Attributes:
        suffix: Of the file.
        requires: Optional packages, all of the extra ``onnx``.
        write: Export a network, with an example of its input, to a file.
        load: Load the file as a function of a batch of images.
    """

    suffix: str
    requires: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path], None]
    load: Callable[[Path], Run]


def _dynamic_batch() -> dict[str, dict[int, Any]]:
    return {INPUT: {0: Dim("batch", min=1)}}


def _write_onnx(network: nn.Module, example: Tensor, path: Path) -> None:
    try:
        program = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT],
            opset_version=20,
            dynamic_shapes=_dynamic_batch(),
            dynamo=True,
            verbose=False,
        )
    except torch.onnx.OnnxExporterError as error:
        why = str(error.__cause__ or error).partition(". ")[0]
        raise ValueError(
            "Expected a network all of whose operations ONNX has, those of its gradients included. "
            f"Found another ({why}). format=torch_export holds any."
        ) from error
    assert program is not None
    for node in program.model.graph:  # a pooling's result may be called mean, as an output of ours
        for value in node.outputs:
            value.name = f"{value.name}_"
    for name, value in zip(OUTPUTS, program.model.graph.outputs, strict=True):
        value.name = name
    program.save(path, external_data=False)  # one file


def _load_onnx(path: Path) -> Run:
    import onnxruntime  # type: ignore[import-untyped]  # has no types

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of constants that it does not fold
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(list(OUTPUTS), {INPUT: images.numpy()})


def _write_torch_export(network: nn.Module, example: Tensor, path: Path) -> None:
    program = torch.export.export(network, (example,), dynamic_shapes=_dynamic_batch())
    torch.export.save(program, path)


def _load_torch_export(path: Path) -> Run:
    return torch.export.load(path).module()


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "torch_export": Format(".pt2", (), _write_torch_export, _load_torch_export),
}


@command("export", paths=("explainer", "output"))
def export(config: Node, run: Path) -> None:
    """Export an explainer as configured, and say what was written.

    Raises:
        ValueError: If a setting is wrong or the exported graph disagrees with PyTorch.
    """
    form = format_of(config["format"])
    source = Path(config["explainer"])
    directory = source if source.is_dir() else Path()
    output = Path(config["output"] or directory / f"explainer{form.suffix}")
    if output.suffix != form.suffix:
        raise ValueError(f"Expected output to end in {form.suffix}. Found {output}.")
    explainer = load_explainer(config["explainer"])
    if explainer.asks_classifier:
        explainer.ask(
            explained_classifier(explainer.config, config["classifier"], force=config["force"]),
            force=True,
        )
    height, width = image_size(config["image_size"] or explainer.config.get("image_size"))
    difference = write_export(explainer, output, form, height=height, width=width)
    report = (
        f"{output} ({output.stat().st_size / 1e6:.2f} MB)\n"
        f"input   {INPUT}: float32 (batch, 3, {height}, {width}) in [0, 1], any batch\n"
        f"outputs mean, stddev: float32 (batch, {height}, {width}); confidence: float32 (batch,)\n"
        f"largest difference from PyTorch: {difference:.1e}"
    )
    print(report)


def format_of(name: str) -> Format:
    """Format by name, with all that it needs installed.

    Raises:
        ValueError: If there is no such format or a package is missing.
    """
    if name not in FORMATS:
        raise ValueError(f"Expected format {' or '.join(FORMATS)}. Found {name!r}.")
    missing = [package for package in FORMATS[name].requires if find_spec(package) is None]
    if missing:
        raise ValueError(
            f"Expected the optional extra onnx for format={name}. "
            f"Not found: {', '.join(missing)}: pip install 'saliency-vae[onnx]'."
        )
    return FORMATS[name]


def image_size(size: Sequence[int] | None) -> tuple[int, int]:
    """Height and width of a list of the two.

    Raises:
        ValueError: If it is not.
    """
    if size is None or len(size) != 2:
        raise ValueError(f"Expected image_size=[HEIGHT,WIDTH]. Found {size}.")
    if min(size) < MINIMUM_SIZE:
        raise ValueError(f"Expected image_size=[H,W] with H, W >= {MINIMUM_SIZE}. Found {size}.")
    return size[0], size[1]


def write_export(
    explainer: Explainer, output: Path, form: Format, *, height: int, width: int
) -> float:
    """Export an explainer; the file takes its place once it has been found to be right.

    Args:
        explainer: In eval mode, on the CPU.
        output: File to write; its directory is made if needed.
        form: To write.
        height: H of the images, >= 16.
        width: W of the images, >= 16.

    Returns:
        Largest difference from PyTorch found in mean and stddev.

    Raises:
        ValueError: If one is more than :data:`TOLERANCES` allow, the explainer has no confidence
            network, or a network does not take images of the size.
    """
    network = Graph(contiguous(explainer)).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(size, 3, height, width, generator=generator) for size in _BATCHES]
    try:
        expected = [_answers(network, images) for images in batches]
    except RuntimeError as error:
        raise ValueError(
            f"Expected image_size that the networks take. Found [{height},{width}] "
            f"({' '.join(str(error).split())})."
        ) from error
    example = batches[1]  # a batch of 1 may be taken for a constant
    traced = Traced(network, example).eval() if explainer.asks_classifier else network
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".export_") as scratch:
        partial = Path(scratch) / output.name
        form.write(traced, example, partial)
        exported = form.load(partial)
        found = [_answers(exported, images) for images in batches]
        differences = [
            max(_difference(a[i], b[i]) for a, b in zip(expected, found, strict=True))
            for i in range(len(OUTPUTS))
        ]
        for (name, tolerance), difference in zip(TOLERANCES.items(), differences, strict=True):
            if not difference <= tolerance:
                raise ValueError(
                    f"Expected the exported graph to agree with PyTorch on {name} within "
                    f"{tolerance}. Found a difference of {difference}: nothing was written."
                )
        partial.replace(output)
    return max(differences[:2])


def contiguous(explainer: Explainer) -> Explainer:
    """Copy an explainer, and the classifier that it asks, in one memory format.

    torch.export's archive keeps channels-last weights badly, and ONNX lacks their gradients.
    """
    copy = deepcopy(explainer).to(memory_format=torch.contiguous_format)
    if copy.asks_classifier:
        copy.classifier.to(memory_format=torch.contiguous_format)
    return copy


@torch.no_grad()
def _answers(function: Run, images: Tensor) -> list[Tensor]:
    return [torch.as_tensor(answer) for answer in function(images)]


def _difference(expected: Tensor, found: Tensor) -> float:
    return (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")


if __name__ == "__main__":
    export()
