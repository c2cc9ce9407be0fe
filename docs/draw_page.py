"""Draw docs/app.png: the page in the browser, with the photographs that scikit-image ships.

python docs/draw_page.py

Needs the extras ``app`` and ``efficientnet-lite``, and Chromium.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import sync_playwright
from skimage import data

from saliency_vae.app.serve import launch, make_page
from saliency_vae.cli.schemas import AppConfig

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")  # public domain or CC0
CLASSIFIER = {"_target_": "saliency_vae.classifiers.efficientnet_lite_classifier", "name": "lite0"}
MILLISECONDS = 120_000.0
FILE = Path(__file__).parent / "app.png"


@contextmanager
def served() -> Iterator[str]:
    """Address of the page, with the photographs as its examples."""
    with tempfile.TemporaryDirectory() as directory:
        for name in PHOTOGRAPHS:
            Image.fromarray(getattr(data, name)()).save(Path(directory) / f"{name}.png")
        config = AppConfig(classifier=CLASSIFIER, examples=directory, port=None)
        page = make_page(config)
        blocks = launch(page, config)
        try:
            yield blocks.local_url
        finally:
            blocks.close()
            page.close()


def explained(page: BrowserPage, address: str) -> None:
    """Let the page explain its first example, and compare methods on it."""
    page.set_default_timeout(MILLISECONDS)
    page.goto(address)
    page.locator("#bars .row").first.wait_for()
    page.locator("#compare").click()
    page.locator("#others img").nth(2).wait_for()
    page.mouse.move(0, 0)  # nothing is pointed at
    page.wait_for_timeout(1000)  # the page fades in what is new


def main() -> None:
    """Draw the page with Chromium."""
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 1320, "height": 1000})
        explained(page, address)
        pixels = page.screenshot(full_page=True)
        browser.close()
    Image.open(BytesIO(pixels)).convert("RGB").quantize(256).save(FILE, optimize=True)
    print(FILE)


if __name__ == "__main__":
    main()
