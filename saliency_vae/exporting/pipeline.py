"""Export an explainer as configured: load, export, compare, put in place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saliency_vae import __version__
from saliency_vae.classifiers import Target
from saliency_vae.cli.schemas import ExportConfig
from saliency_vae.data import MINIMUM_SIZE
from saliency_vae.exporting.checked_export import Agreement, naming_size, write_export
from saliency_vae.exporting.formats import INPUT, OUTPUTS, TOLERANCES, find_format
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.models.serialization import find_directory


@dataclass(frozen=True)
class Summary:
    """Summary of an export.

    Attributes:
        path: File of the exported graph.
        height: Height of the images that it takes.
        width: Width of the images that it takes.
        agreement: How well it agrees with PyTorch.
        target: Target that it explains; None for the decision.
        tells_depth: Whether it tells which images are unlike the training images.
    """

    path: Path
    height: int
    width: int
    agreement: Agreement
    target: str | None = None
    tells_depth: bool = False

    def __str__(self) -> str:
        """Write the summary as it is printed."""
        size = f"{self.height}, {self.width}"
        return (
            f"{self.path} ({self.path.stat().st_size / 1e6:.2f} MB)\n"
            f"input   {INPUT}: float32 (batch, 3, {size}) in [0, 1], any batch\n"
            f"outputs mean, stddev: float32 (batch, {size}); confidence: float32 (batch,)"
            f"{'; out_of_depth: bool (batch,)' if self.tells_depth else ''}\n"
            f"explains {'the decision' if self.target is None else self.target}\n"
            f"largest difference from PyTorch: {self.agreement.difference:.1e}"
            + self._ordered_alike()
        )

    def _ordered_alike(self) -> str:
        """Report the rank correlation if the maps differ by more than the tolerance."""
        if self.agreement.difference <= max(TOLERANCES["mean"], TOLERANCES["stddev"]):
            return ""
        return (
            "\nlowest rank correlation with PyTorch's maps: "
            f"{self.agreement.rank_correlation:.4f} (gradients jump where a ReLU's input passes 0)"
        )


def export_explainer(config: ExportConfig) -> Summary:
    """Export an explainer, together with its classifier if the encoder is conditioned on it.

    Raises:
        ValueError: If a setting is wrong or the exported graph disagrees with PyTorch.
    """
    form = find_format(config.format)
    source = Path(config.explainer)
    directory = find_directory(source, {}) if source.is_dir() else Path()
    output = Path(config.output or directory / f"explainer{form.suffix}")
    if output.suffix != form.suffix:
        raise ValueError(f"Expected output to end in {form.suffix}. Found {output}.")
    explainer = load_explainer(config.explainer)
    if explainer.is_conditional:
        classifier = explainer.build_classifier(config.classifier, force=config.force)
        explainer.attach_classifier(classifier, force=True)
    height, width = image_size(config.image_size or explainer.config.image_size)
    target = class_weights(explainer, config.target, torch.zeros(1, 3, height, width))
    metadata = describe(explainer, (height, width), config.target)
    agreement = write_export(
        explainer,
        output,
        form,
        height=height,
        width=width,
        target=target,
        metadata=metadata,
    )
    tells_depth = OUTPUTS[-1] in metadata["outputs"]
    return Summary(output, height, width, agreement, config.target, tells_depth)


def class_weights(explainer: Explainer, asked: str | None, image: Tensor) -> Target | None:
    """Make a target of one class, with weights of the logits that are constants in a graph.

    Args:
        explainer: Explainer with its classifier.
        asked: Name or index of the class; None for the decision.
        image: Any image, (1, 3, H, W).

    Raises:
        ValueError: If the explainer takes no targets, there is no such class, or the classifier
            does not take images of this size.
    """
    target = explainer.target(asked)
    if not callable(target):
        return target
    with naming_size(*image.shape[-2:]), torch.no_grad():
        weights = target(explainer.classifier(image))
    return lambda logits: weights.expand(logits.shape[0], -1)


def describe(explainer: Explainer, size: tuple[int, int], target: str | None) -> dict[str, Any]:
    """Describe an exported graph in plain values, which are kept in its file.

    Args:
        explainer: Exported explainer.
        size: Height and width of the images.
        target: Target as the user wrote it; None for the decision.
    """
    classifier = explainer.classifier if explainer.is_conditional else None
    recorded = explainer.config.classifier
    identity = recorded if classifier is None else classifier.identity()
    preprocessing = (
        explainer.config.preprocessing if classifier is None else classifier.preprocessing
    )
    outputs = {
        "mean": "posterior mean of the saliency map, (batch, height, width)",
        "stddev": "its standard deviation, (batch, height, width)",
        "confidence": "probability that 5 % of the pixels keep what is explained, (batch,): "
        + ("measured" if explainer.confidence is None else "estimated"),
    }
    if explainer.confidence is not None and explainer.confidence.depth.is_known:
        outputs["out_of_depth"] = (
            "whether the image is unlike those of the training, so that the confidence is a guess, "
            "(batch,) bool"
        )
    return {
        "input": "images: float32 RGB (batch, 3, height, width) in [0, 1], not normalised",
        "outside [0, 1]": "all outputs of such an image are NaN, out_of_depth is true",
        "outputs": outputs,
        "image_size": list(size),
        "preprocessing": None if preprocessing is None else asdict(preprocessing),
        "target": target or "decision",
        "classifier": identity and {"name": identity.name, "sha256": identity.sha256},
        "categories": classifier and list(classifier.categories or ()),
        "explainer": explainer.config.name,
        "version": __version__,
    }


def image_size(size: Sequence[int] | None) -> tuple[int, int]:
    """Check a list of height and width.

    Raises:
        ValueError: If it does not hold two numbers, or one is too small.
    """
    if size is None or len(size) != 2:
        raise ValueError(f"Expected image_size=[HEIGHT,WIDTH]. Found {size}.")
    if min(size) < MINIMUM_SIZE:
        raise ValueError(f"Expected image_size=[H,W] with H, W >= {MINIMUM_SIZE}. Found {size}.")
    return size[0], size[1]
