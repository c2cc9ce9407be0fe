"""Writing an exported graph: it takes its place once it has been compared with PyTorch."""

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from saliency_vae.exporting.formats import OUTPUTS, TOLERANCES, Format, Run
from saliency_vae.exporting.graph import ExplainerGraph, TracedGraph
from saliency_vae.models import Explainer

_BATCH_SIZES = (1, 2, 5)  # at which the graph is compared


def write_export(
    explainer: Explainer, output: Path, form: Format, *, height: int, width: int
) -> float:
    """Export an explainer; an earlier file stays as it was if the export fails.

    Args:
        explainer: Explainer in eval mode, on the CPU.
        output: File to write; its directory is made if needed.
        form: Format of the file.
        height: Height of the images, >= 16.
        width: Width of the images, >= 16.

    Returns:
        Largest difference from PyTorch found in mean and stddev.

    Raises:
        ValueError: If an output differs by more than :data:`TOLERANCES` allows, the explainer has
            no confidence network, or a network does not take images of this size.
    """
    network = ExplainerGraph(in_contiguous_memory(explainer)).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(size, 3, height, width, generator=generator) for size in _BATCH_SIZES]
    try:
        expected = [_answers(network, images) for images in batches]
    except RuntimeError as error:
        raise ValueError(
            f"Expected image_size that the networks take. Found [{height},{width}] "
            f"({' '.join(str(error).split())})."
        ) from error
    example = batches[1]  # an exporter may take a batch of 1 for a constant
    traced = TracedGraph(network, example).eval() if explainer.is_conditional else network
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".export_") as scratch:
        partial = Path(scratch) / output.name
        form.write(traced, example, partial)
        exported = form.load(partial)
        differences = _compare(expected, [_answers(exported, images) for images in batches])
        partial.replace(output)
    return max(differences["mean"], differences["stddev"])


def in_contiguous_memory(explainer: Explainer) -> Explainer:
    """Copy an explainer, and the classifier that it is conditioned on, with contiguous weights.

    torch.export's archive does not keep channels-last weights as they are, and ONNX has no
    gradients of them.
    """
    copy = deepcopy(explainer).to(memory_format=torch.contiguous_format)
    if copy.is_conditional:
        copy.classifier.to(memory_format=torch.contiguous_format)
    return copy


def _compare(expected: list[list[Tensor]], found: list[list[Tensor]]) -> dict[str, float]:
    """Find the largest difference of each output over batches.

    Raises:
        ValueError: If one is above its tolerance, or is not a number.
    """
    differences = {
        name: max(_difference(a[i], b[i]) for a, b in zip(expected, found, strict=True))
        for i, name in enumerate(OUTPUTS)
    }
    for name, difference in differences.items():
        if not difference <= TOLERANCES[name]:
            raise ValueError(
                f"Expected the exported graph to agree with PyTorch on {name} within "
                f"{TOLERANCES[name]}. Found a difference of {difference}: nothing was written."
            )
    return differences


@torch.no_grad()
def _answers(function: Run, images: Tensor) -> list[Tensor]:
    return [torch.as_tensor(answer) for answer in function(images)]


def _difference(expected: Tensor, found: Tensor) -> float:
    return (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
