"""Serve the page, by default only to this machine and without network access."""

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from saliency_vae.app.answers import PageAnswers
from saliency_vae.app.page import CSS, Page, theme
from saliency_vae.cli.schemas import AppConfig
from saliency_vae.data import find_images
from saliency_vae.models import load_explainer
from saliency_vae.runtime.device import pick_device
from saliency_vae.runtime.text import one_line

_MOST_EXAMPLES = 24
# Turn off the version checks and usage reports that Gradio sends by default.
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}


def make_page(config: AppConfig) -> Page:
    """Load explainer and classifier, and lay out the page for them.

    Raises:
        ValueError: If a setting is wrong or Gradio is not installed.
    """
    os.environ.update(_QUIET)
    examples = example_files(config.examples)
    explainer = load_explainer(config.explainer)
    classifier = explainer.build_classifier(config.classifier, force=config.force)
    device = pick_device(config.device)
    explainer.to(device).attach_classifier(classifier.to(device), force=True)
    return Page(PageAnswers(explainer, samples=config.samples), examples)


def serve(config: AppConfig) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ValueError: If a setting is wrong, Gradio is not installed, or the port is taken.
    """
    page = make_page(config)
    try:
        blocks = launch(page, config)
        print(f"{blocks.local_url}  (Ctrl-C stops it)", flush=True)
        if blocks.share_url:
            print(blocks.share_url, flush=True)
        blocks.block_thread()
    finally:
        page.close()


def launch(page: Page, config: AppConfig) -> Any:
    """Start serving a page, and return Gradio's ``Blocks``.

    Raises:
        ValueError: If the port is taken.
    """
    blocks = page.build()
    try:
        blocks.queue(max_size=32).launch(
            server_name=config.host,
            server_port=config.port,
            allowed_paths=page.examples,
            **launch_settings(config),
        )
    except OSError as error:
        raise ValueError(
            f"Expected port={config.port} of host={config.host} to be free; port=null takes any "
            f"that is. {one_line(error)}"
        ) from None
    return blocks


def launch_settings(config: AppConfig) -> Mapping[str, Any]:
    """Gradio settings that avoid network requests and limit uploads."""
    return {
        "share": config.share,
        "max_file_size": f"{config.max_megabytes}mb",
        "prevent_thread_lock": True,
        "quiet": True,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "footer_links": [],
        "state_session_capacity": 100,
        "theme": theme(),
        "css": CSS,
    }


def example_files(examples: str | None) -> list[Path]:
    """Images to pick from; by default the photographs that come with scikit-learn."""
    if examples is not None:
        return find_images(examples)[1][:_MOST_EXAMPLES]
    return sorted(
        Path(str(path))
        for path in files("sklearn.datasets.images").iterdir()
        if path.name.endswith(".jpg")
    )
