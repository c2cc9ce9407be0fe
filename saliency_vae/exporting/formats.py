"""The formats of an exported graph: how each is written and loaded again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from saliency_vae.runtime.extras import require

INPUT = "images"
METADATA = "saliency_vae"  # key of the metadata, JSON, in either format
# Largest difference allowed between the exported graph and PyTorch. It is larger for the
# confidence, since rounding may swap two almost equal pixels at the threshold of the top 5 %.
TOLERANCES = {"mean": 1e-4, "stddev": 1e-4, "confidence": 1e-2, "out_of_depth": 0.0}
OUTPUTS = tuple(TOLERANCES)  # in the order of a graph, which may lack the last one
# Gradients jump at a ReLU's kink. Maps are then accepted if they are ordered alike: the rank
# correlation of each image's means is at least this, and no difference is above LOOSE.
LEAST_CORRELATION = 0.99
LOOSE = {"mean": 0.5, "stddev": 0.5, "confidence": 0.1, "out_of_depth": 0.0}

Run = Callable[[Tensor], Sequence[Any]]


@dataclass(frozen=True)
class Format:
    """A format of exported graphs.

    Attributes:
        suffix: Suffix of its files.
        requires: Optional packages that it needs, all installed by the extra ``onnx``.
        write: Exports a network, with an example of its input and metadata, to a file.
        load: Loads the file as a function of a batch of images.
        metadata: Reads the metadata of a file.
    """

    suffix: str
    requires: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, str, Path], None]
    load: Callable[[Path], Run]
    metadata: Callable[[Path], str]


def _dynamic_batch() -> dict[str, dict[int, Any]]:
    return {INPUT: {0: Dim("batch", min=1)}}


def _write_onnx(network: nn.Module, example: Tensor, metadata: str, path: Path) -> None:
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
            "Expected a network whose operations ONNX has, those of its gradients included. "
            f"Found an operation that it lacks ({why}). Use format=torch_export, which has all."
        ) from error
    assert program is not None
    for node in program.model.graph:  # one may have an output's name, as a pooling's "mean"
        for value in node.outputs:
            value.name = f"{value.name}_"
    for name, value in zip(OUTPUTS, program.model.graph.outputs, strict=False):
        value.name = name
    program.model.metadata_props[METADATA] = metadata
    program.save(path, external_data=False)  # one file


def _load_onnx(path: Path) -> Run:
    import onnxruntime  # type: ignore[import-untyped]  # it has no types

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; it warns of constants that it does not fold
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {INPUT: images.numpy()})


def _onnx_metadata(path: Path) -> str:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: str = session.get_modelmeta().custom_metadata_map[METADATA]
    return found


def _write_torch_export(network: nn.Module, example: Tensor, metadata: str, path: Path) -> None:
    program = torch.export.export(network, (example,), dynamic_shapes=_dynamic_batch())
    torch.export.save(program, path, extra_files={METADATA: metadata})


def _load_torch_export(path: Path) -> Run:
    return torch.export.load(path).module()


def _torch_export_metadata(path: Path) -> str:
    files = {METADATA: ""}
    torch.export.load(path, extra_files=files)
    return files[METADATA]


FORMATS = {
    "onnx": Format(
        ".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx, _onnx_metadata
    ),
    "torch_export": Format(
        ".pt2", (), _write_torch_export, _load_torch_export, _torch_export_metadata
    ),
}


def find_format(name: str) -> Format:
    """Find a format by name.

    Raises:
        ValueError: If there is no such format, or a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise ValueError(f"Expected format {' or '.join(FORMATS)}. Found {name!r}.")
    require(*FORMATS[name].requires, extra="onnx", wanted_by=f"format={name}")
    return FORMATS[name]
