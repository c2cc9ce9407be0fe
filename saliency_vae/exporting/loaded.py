"""An exported graph as a function that refuses images which the graph cannot explain."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_vae.exporting.formats import FORMATS, OUTPUTS, Run, find_format
from saliency_vae.models.images import RANGE_MARGIN
from saliency_vae.runtime.text import described


@dataclass(frozen=True)
class LoadedExport:
    """An exported explainer.

    Attributes:
        run: The graph: images (B, 3, H, W) in [0, 1] to its outputs.
        metadata: What the graph explains and how images are preprocessed for it, plain values.
    """

    run: Run
    metadata: dict[str, Any]

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Explain images.

        Args:
            images: Images in [0, 1], float32 (B, 3, H, W), of the size in the metadata.

        Returns:
            ``mean`` and ``stddev``, (B, H, W) each, and ``confidence``, (B,); if the graph has it,
            also ``out_of_depth``, (B,) bool.

        Raises:
            ValueError: If the images are of another shape or type, or not in [0, 1]; or if the
                outputs are NaN for another reason.
        """
        height, width = self.metadata["image_size"]
        if images.shape[1:] != (3, height, width) or images.dtype != torch.float32:
            raise ValueError(
                f"Expected float32 images (B, 3, {height}, {width}): an exported graph has one "
                f"size. Found {tuple(images.shape)} of {images.dtype}. Export another size with "
                "image_size=[H,W]."
            )
        answers = [torch.as_tensor(answer) for answer in self.run(images)]
        if answers[0].isnan().any():
            low, high = images.aminmax()
            if low >= -RANGE_MARGIN and high <= 1 + RANGE_MARGIN:
                raise ValueError(
                    "Expected a graph that answers in numbers. Found NaN for images in [0, 1]: the "
                    "network that was exported gives it, too, or overflows in this runtime."
                )
            raise ValueError(
                f"Expected images in [0, 1]. Found values from {low:.3g} to {high:.3g}."
            )
        return dict(zip(OUTPUTS, answers, strict=False))


def load_export(path: str | Path) -> LoadedExport:
    """Load a file that ``saliency_vae.export`` wrote, ``.onnx`` or ``.pt2``.

    Without this package, ONNX Runtime and ``torch.export.load`` run it: the metadata is JSON under
    the key ``saliency_vae``, in ``metadata_props`` or in ``extra_files``.

    Raises:
        ValueError: If it is not such a file.
    """
    path = Path(path)
    name = next((name for name, form in FORMATS.items() if form.suffix == path.suffix), path.suffix)
    form = find_format(name)
    try:
        metadata = json.loads(form.metadata(path))
        return LoadedExport(form.load(path), metadata)
    except Exception as error:  # of either runtime
        raise ValueError(
            f"Expected {path} to be a file that saliency_vae.export wrote. "
            f"Found {described(error)[:200]}"
        ) from None
