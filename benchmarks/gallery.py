"""The gallery of 100,000 images against that of 1,000: memory, and how soon its first page opens.

The explanation of one image is stored under many names, in batches of 16, as the command
``saliency_vae.explain`` stores them. A page is open when Chromium has drawn its first image; this
is left out without Playwright. The files of 100,000 images of 48x48 take 8 GB in the temporary
directory.

python benchmarks/gallery.py [--quick]
"""

import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from saving import write_pictures
from timing import Report, Target, arguments
from torch import nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.data import Preprocessing
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.inference.image_files import InputImages
from saliency_vae.inference.outputs import Outputs
from saliency_vae.inference.predict import BatchExplainer, ExplainSettings
from saliency_vae.inference.store import DIRECTORY, Store, StoredExplanation, entry_at
from saliency_vae.models import Explainer, UNet
from saliency_vae.perturbations import Mean
from saliency_vae.visualization import Explanation, InputImage, write_gallery

BATCH = 16
BROWSERS = ("/usr/bin/chromium", "chromium", "google-chrome")

Open = Callable[[Path], float | None]


@contextmanager
def browser() -> Iterator[Open]:
    """Start headless Chromium; returns a function that opens a page and takes the seconds."""
    if find_spec("playwright") is None:
        yield lambda path: None
        return
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])

        def seconds_to_draw(path: Path) -> float:
            page, start = chromium.new_page(), time.perf_counter()
            page.goto(path.as_uri(), wait_until="commit")
            page.locator(".card:first-child .kept[aria-label]").wait_for()
            taken = time.perf_counter() - start
            page.close()
            return taken

        yield lambda path: statistics.median(seconds_to_draw(path) for _ in range(3))
        chromium.close()


def peak() -> float:
    """Peak resident MiB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def explained(root: Path, side: int, device: torch.device) -> StoredExplanation:
    """Explain a photograph of 640x480, of which the classifier sees ``side`` x ``side`` pixels."""
    torch.manual_seed(0)
    write_pictures(root, 1, (640, 480))
    (file,) = root.iterdir()
    preprocessing = Preprocessing(resize_size=side, crop_size=(side, side))
    classifier = FrozenClassifier(DigitNet(), name="digits", preprocessing=preprocessing).to(device)
    explainer = Explainer(UNet([8, 24, 48, 64]), prior=partial(KroneckerNormal)).to(device)
    nn.init.normal_(explainer.get_parameter("encoder.head.weight"), std=0.5)  # maps vary
    explain = BatchExplainer(explainer, classifier, Mean(), ExplainSettings(fraction=0.1))
    image = InputImages(root, [file], preprocessing, shown={file.name})[0]
    assert isinstance(image, InputImage)
    (explanation,) = explain([image])
    assert isinstance(explanation, Explanation)
    return Outputs(root).stored(explanation)


def named(one: StoredExplanation, number: int, of: int) -> StoredExplanation:
    """The explanation under a name and with a sufficiency of its own."""
    assert one.entry is not None
    name, sufficiency = f"{number:06}.jpg", number / of
    entry = json.loads(one.entry) | {"name": name, "sufficiency": sufficiency}
    return replace(one, name=name, sufficiency=sufficiency, entry=json.dumps(entry))


def measure(one: StoredExplanation, number: int, root: Path, opened: Open) -> dict[str, Any]:
    """Store an explanation under many names, and write and open their gallery."""
    store, start = Store(root / DIRECTORY), time.perf_counter()
    store.directory.mkdir(parents=True)
    row: dict[str, Any] = {"peak MiB before": peak()}

    def note(what: str) -> None:
        nonlocal start
        row[f"{what}, s"] = time.perf_counter() - start
        row[f"peak MiB, {what}"] = peak()
        start = time.perf_counter()

    for first in range(0, number, BATCH):
        batch = range(first, min(first + BATCH, number))
        store.write([named(one, n, number) for n in batch], [])
    note("stored")
    places = store.index().places
    note("index read")
    entries = [
        (place.sufficiency or 0.0, partial(entry_at, place)) for _, place in sorted(places.items())
    ]
    first_page = write_gallery(entries, root, title="Benchmark")
    note("pages written")
    row["pages"] = str(len(list(root.glob("index*.html"))))
    row["first page, MiB"] = first_page.stat().st_size / 2**20
    row["first page drawn, s"] = opened(first_page)
    return row


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    report = Report("gallery", "The gallery of many images", options.device, options.quick)
    few, many = (17, 34) if options.quick else (1_000, 100_000)
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as directory, browser() as opened:
        root = Path(directory)
        for side, number in ((48, few), (48, many), (224, few)):
            if not (root / str(side)).exists():
                one = explained(root / str(side), side, options.device)
            name = f"{number:,} images of {side}x{side}"
            rows[name] = measure(one, number, root / name, opened)
            shutil.rmtree(root / name)
    report.tables["Seconds of each step, and peak resident memory after it"] = [
        {"": name, **row} for name, row in rows.items()
    ]
    small, large, _ = rows.values()
    for step, most in (("stored", 1.02), ("pages written", 1.1)):
        grown = large[f"peak MiB, {step}"] / small[f"peak MiB, {step}"]
        what = f"resident memory, {step}, {many:,} / {few:,} images"
        report.targets.append(Target(what, grown, at_most=most))
    if (drawn := large["first page drawn, s"]) is not None:
        report.targets.append(Target(f"first page of {many:,} images, s", drawn, at_most=1))
    report.save(options.output)


if __name__ == "__main__":
    main()
