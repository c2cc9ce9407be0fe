"""Open a page in the browser that explains photographs.

python -m saliency_vae.app classifier=efficientnet_lite
python -m saliency_vae.app classifier=huggingface classifier.name=OWNER/NAME examples=photos
"""

from pathlib import Path

from saliency_vae.cli.command import command
from saliency_vae.cli.schemas import AppConfig
from saliency_vae.cli.validation import Node


@command("app", paths=("explainer", "examples"))
def app(config: Node, run: Path) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ValueError: If a setting is wrong or Gradio is not installed.
    """
    from saliency_vae.app.serve import serve  # loads torch, which --help does not need

    serve(AppConfig(**config))


if __name__ == "__main__":
    app()
