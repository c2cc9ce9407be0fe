"""Export an explainer as one graph that runs without this package.

python -m saliency_vae.export explainer=DIR format=onnx
python -m saliency_vae.export explainer=DIR format=torch_export output=explainer.pt2
python -m saliency_vae.export explainer=OWNER/NAME format=onnx image_size=[224,224]

An explainer that asks its classifier is exported with it.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from saliency_vae.data import MINIMUM_SIZE
from saliency_vae.exporting.formats import OUTPUTS, TOLERANCES, Format, Run
from saliency_vae.exporting.graph import Graph, Traced
from saliency_vae.models import Explainer

_BATCHES = (1, 2, 5)  # that they are compared at


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
    traced = Traced(network, example).eval() if explainer.is_conditional else network
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
    if copy.is_conditional:
        copy.classifier.to(memory_format=torch.contiguous_format)
    return copy


@torch.no_grad()
def _answers(function: Run, images: Tensor) -> list[Tensor]:
    return [torch.as_tensor(answer) for answer in function(images)]


def _difference(expected: Tensor, found: Tensor) -> float:
    return (found - expected).abs().max().item() if found.shape == expected.shape else float("inf")
