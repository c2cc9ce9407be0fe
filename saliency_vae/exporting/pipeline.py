"""Export an explainer as configured: load, export, compare, put in place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saliency_vae.cli.schemas import ExportConfig
from saliency_vae.data import MINIMUM_SIZE
from saliency_vae.exporting.checked_export import write_export
from saliency_vae.exporting.formats import INPUT, find_format
from saliency_vae.models import load_explainer
from saliency_vae.models.serialization import find_directory


@dataclass(frozen=True)
class Summary:
    """What was exported.

    Attributes:
        path: File of the exported graph.
        height: Height of the images that it takes.
        width: Width of the images that it takes.
        difference: Largest difference of mean and stddev from PyTorch.
    """

    path: Path
    height: int
    width: int
    difference: float

    def __str__(self) -> str:
        """Write the summary as it is printed."""
        size = f"{self.height}, {self.width}"
        return (
            f"{self.path} ({self.path.stat().st_size / 1e6:.2f} MB)\n"
            f"input   {INPUT}: float32 (batch, 3, {size}) in [0, 1], any batch\n"
            f"outputs mean, stddev: float32 (batch, {size}); confidence: float32 (batch,)\n"
            f"largest difference from PyTorch: {self.difference:.1e}"
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
    difference = write_export(explainer, output, form, height=height, width=width)
    return Summary(output, height, width, difference)


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
