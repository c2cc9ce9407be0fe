"""Export an explainer as one graph that runs without this package.

python -m saliency_vae.export explainer=DIR format=onnx
python -m saliency_vae.export explainer=DIR format=torch_export output=explainer.pt2
python -m saliency_vae.export explainer=OWNER/NAME format=onnx image_size=[224,224]

An explainer whose encoder is conditioned on its classifier is exported together with it.
"""

from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.schemas import ExportConfig
from saliency_vae.cli.validation import Node


@command("export", paths=("explainer", "output"))
def export(config: Node, run: Path) -> None:
    """Export an explainer as configured, and print what was written.

    Raises:
        ValueError: If a setting is wrong or the exported graph disagrees with PyTorch.
    """
    from saliency_vae.exporting import export_explainer  # loads torch, which --help does not need

    print(export_explainer(ExportConfig(**config)))


if __name__ == "__main__":
    export()
