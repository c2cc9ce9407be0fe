"""Export an explainer as one graph that runs without this package.

python -m saliency_vae.export explainer=DIR format=onnx
python -m saliency_vae.export explainer=DIR format=torch_export output=explainer.pt2
python -m saliency_vae.export explainer=OWNER/NAME format=onnx image_size=[224,224]

An explainer whose encoder is conditioned on its classifier is exported together with it.
"""

from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.validation import Node
from saliency_vae.exporting.checked_export import image_size, write_export
from saliency_vae.exporting.formats import INPUT, format_of
from saliency_vae.models import load_explainer


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
    if explainer.is_conditional:
        explainer.attach_classifier(
            explainer.build_classifier(config["classifier"], force=config["force"]),
            force=True,
        )
    height, width = image_size(config["image_size"] or explainer.config.image_size)
    difference = write_export(explainer, output, form, height=height, width=width)
    report = (
        f"{output} ({output.stat().st_size / 1e6:.2f} MB)\n"
        f"input   {INPUT}: float32 (batch, 3, {height}, {width}) in [0, 1], any batch\n"
        f"outputs mean, stddev: float32 (batch, {height}, {width}); confidence: float32 (batch,)\n"
        f"largest difference from PyTorch: {difference:.1e}"
    )
    print(report)


if __name__ == "__main__":
    export()
