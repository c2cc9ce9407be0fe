"""Writing an exported graph, which is put in place only once it agrees with PyTorch."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from saliency_vae.classifiers import Target
from saliency_vae.exporting.formats import (
    LEAST_CORRELATION,
    LOOSE,
    OUTPUTS,
    TOLERANCES,
    Format,
    Run,
)
from saliency_vae.exporting.graph import ExplainerGraph, TracedGraph
from saliency_vae.metrics import spearman
from saliency_vae.models import Explainer
from saliency_vae.runtime.text import one_line

_BATCH_SIZES = (1, 2, 5)  # at which the graph is compared with PyTorch


@dataclass(frozen=True)
class Agreement:
    """How well an exported graph agrees with PyTorch.

    Attributes:
        difference: Largest absolute difference in mean or stddev.
        rank_correlation: Lowest rank correlation between the two means of an image.
    """

    difference: float
    rank_correlation: float


def write_export(
    explainer: Explainer,
    output: Path,
    form: Format,
    *,
    height: int,
    width: int,
    target: Target | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Agreement:
    """Export an explainer; an earlier file stays as it was if the export fails.

    Args:
        explainer: Explainer in eval mode, on the CPU.
        output: File to write; its directory is made if needed.
        form: Format of the file.
        height: Height of the images, >= 16.
        width: Width of the images, >= 16.
        target: Target for a universal explainer; None for the decision.
        metadata: Plain values to keep in the file.

    Returns:
        How well the exported graph agrees with PyTorch.

    Raises:
        ValueError: If an output differs by more than :data:`TOLERANCES` allows and the maps are not
            ordered alike either, the explainer has neither a classifier nor a confidence network,
            or a network does not take images of this size.
    """
    network = ExplainerGraph(in_contiguous_memory(explainer), target).eval()
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(size, 3, height, width, generator=generator) for size in _BATCH_SIZES]
    with naming_size(height, width):
        expected = [_answers(network, images) for images in batches]
    example = batches[1]  # an exporter may treat a batch size of 1 as a constant
    traced = TracedGraph(network, example).eval() if explainer.is_conditional else network
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent, prefix=".export_") as scratch:
        partial = Path(scratch) / output.name
        form.write(traced, example, json.dumps(metadata or {}), partial)
        exported = form.load(partial)
        found = [_answers(exported, images) for images in batches]
        agreement = compare(expected, found, by_rank=explainer.is_conditional)
        partial.replace(output)
    return agreement


@contextmanager
def naming_size(height: int, width: int) -> Iterator[None]:
    """Report a network's error as an image size that the network does not take."""
    try:
        yield
    except (AssertionError, RuntimeError) as error:  # networks of timm assert their size
        raise ValueError(
            f"Expected image_size that the networks take. Found [{height},{width}] "
            f"({one_line(error)})."
        ) from error


def in_contiguous_memory(explainer: Explainer) -> Explainer:
    """Copy an explainer, and the classifier that it is conditioned on, with contiguous weights.

    torch.export's archive does not preserve channels-last weights, and ONNX has no gradients of
    them.
    """
    copy = deepcopy(explainer).to(memory_format=torch.contiguous_format)
    if copy.is_conditional:
        copy.classifier.to(memory_format=torch.contiguous_format)
    return copy


def compare(expected: list[list[Tensor]], found: list[list[Tensor]], *, by_rank: bool) -> Agreement:
    """Find the largest difference of the outputs over batches, and the lowest rank correlation.

    A gradient jumps where a ReLU's input passes 0, so rounding alone can change single pixels of
    the maps of a classifier-conditioned encoder. If such maps differ, they are compared by rank.

    Raises:
        ValueError: If a difference is above its tolerance or NaN, and the maps are not ordered
            alike either.
    """
    pairs = list(zip(expected, found, strict=True))
    differences = {
        name: max(_difference(a[i], b[i]) for a, b in pairs)
        for i, name in enumerate(OUTPUTS[: len(expected[0])])
    }
    agreement = Agreement(
        difference=max(differences["mean"], differences["stddev"]),
        rank_correlation=min(_rank_correlation(a[0], b[0]) for a, b in pairs),
    )
    for name, difference in differences.items():
        loose = LOOSE[name] if by_rank and agreement.rank_correlation >= LEAST_CORRELATION else 0.0
        if not difference <= max(TOLERANCES[name], loose):
            raise ValueError(
                f"Expected the exported graph to agree with PyTorch on {name} within "
                f"{TOLERANCES[name]}. Found a difference of {difference} and a rank correlation of "
                f"the means of {agreement.rank_correlation:.4f}: nothing was written."
            )
    return agreement


def _rank_correlation(expected: Tensor, found: Tensor) -> float:
    """Lowest rank correlation of two batches of maps; NaN if shapes differ or one is not finite."""
    if found.shape != expected.shape or not found.isfinite().all():
        return float("nan")
    return float(spearman(expected, found).min())


@torch.no_grad()
def _answers(function: Run, images: Tensor) -> list[Tensor]:
    return [torch.as_tensor(answer) for answer in function(images)]


def _difference(expected: Tensor, found: Tensor) -> float:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    return (found.float() - expected.float()).abs().max().item()
