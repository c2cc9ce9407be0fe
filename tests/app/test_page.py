"""The page in a real browser: a photograph dropped, asked about, and what cannot be explained."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import Request, expect
from safetensors.torch import save_file

from saliency_vae.__main__ import main
from saliency_vae.app.page import Page
from saliency_vae.app.serve import example_files, launch
from saliency_vae.cli.schemas import AppConfig
from tests.app.test_answers import NAMES, answers
from tests.faults.small_run import finish, start
from tests.helpers.browser import chromium
from tests.helpers.tiny_classifier import build

SECONDS = 60_000.0
URL = re.compile(r"http://127\.0\.0\.1:\d+/")


@pytest.fixture(scope="module", autouse=True)
def gradio() -> None:
    """Imported here, and not by every process that collects these tests."""
    pytest.importorskip("gradio", reason="an optional extra")


def run_app(*settings: str) -> None:
    """Run the command as it is typed."""
    sys.argv = ["saliency-vae", "app", *settings]
    main()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address that the command serves for a tiny classifier; Ctrl-C ends it with status 0."""
    directory = tmp_path_factory.mktemp("app")
    save_file(build().state_dict(), directory / "weights.safetensors")
    (directory / "names.txt").write_text("\n".join(NAMES))
    (example,) = (path for path in example_files(None) if path.name == "china.jpg")
    settings = {
        "classifier": "custom",
        "classifier.module": "tests.helpers.tiny_classifier.build",
        "classifier.weights": directory / "weights.safetensors",
        "classifier.categories": directory / "names.txt",
        "classifier.resize_size": 40,
        "classifier.crop_size": 32,
        "examples": example,
        "samples": 3,
        "max_megabytes": 1,
        "port": "null",
    }
    log = directory / "log"
    given = [f"{name}={value}" for name, value in settings.items()]
    process = start(run_app, *given, output=log)
    try:
        while (found := URL.search(log.read_text() if log.exists() else "")) is None:
            assert process.is_alive(), log.read_text()
            time.sleep(0.05)
        yield found.group()
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        status = finish(process)
    assert status == 0, log.read_text()


@pytest.fixture(scope="module")
def opened(served: str) -> Iterator[tuple[BrowserPage, list[str]]]:
    """The page, its example explained, and what it asked of a network so far."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 1000})
        page.set_default_timeout(SECONDS)
        complaints: list[str] = []

        def on_request(request: Request) -> None:
            if not request.url.startswith((served, "data:", "blob:")):
                complaints.append(request.url)

        page.on("request", on_request)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(served)
        page.wait_for_selector("#bars .row")
        yield page, complaints


def value(page: BrowserPage, row: int) -> str:
    return page.locator("#bars .row .value").nth(row).inner_text()


def test_a_visit(opened: tuple[BrowserPage, list[str]], tmp_path: Path) -> None:
    """Example, class, kept share, maps, other methods and downloads, one after the other."""
    page, complaints = opened
    heading = page.locator("#bars h3")
    page.locator("#target input").click()
    page.locator("#target input").fill("do")
    page.get_by_role("option", name="dog").click()
    expect(heading).to_contain_text("“dog”", timeout=SECONDS)
    whole, before = value(page, 0), page.locator("#kept_view img").get_attribute("src")
    page.locator("#kept input[type=range]").focus()
    page.keyboard.press("End")
    page.keyboard.up("End")
    page.locator("#kept input[type=number]").fill("100")
    page.locator("#kept input[type=number]").blur()
    second = page.locator("#bars .row .name").nth(1)
    expect(second).to_have_text("the kept 100 % alone", timeout=SECONDS)
    assert value(page, 0) == value(page, 1) == whole
    assert page.locator("#kept_view img").get_attribute("src") != before
    seen = {page.locator("#tile img").get_attribute("src")}
    for kind, legend in (("uncertainty", "Standard deviation"), ("samples", "of its kept pixels")):
        page.locator("#kind label", has_text=kind).last.click()
        expect(page.locator("#legend")).to_contain_text(legend)
        page.wait_for_function(
            "seen => !seen.includes(document.querySelector('#tile img').src)", arg=list(seen)
        )
        seen.add(page.locator("#tile img").get_attribute("src"))
    page.locator("#compare").click()
    expect(page.locator("#others img").first).to_be_visible(timeout=SECONDS)
    captions = page.locator("#others figcaption").all_inner_texts()
    assert [caption.split("\n")[0] for caption in captions] == [
        "this explainer",
        "SmoothGrad",
        "Grad-CAM",
    ]
    kept = {caption.split("\n")[1].split(",")[0] for caption in captions}
    assert len(kept) == 1  # all pixels, whatever the method
    assert re.fullmatch(r"sufficiency 0\.\d\d", kept.pop())
    with page.expect_download() as download:
        page.locator("#npz").click()
    download.value.save_as(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as arrays:
        assert arrays["mean"].shape == (427, 640)
        assert str(arrays["target"]) == "dog"
        assert arrays["fraction"] == 1
        assert np.nanmin(arrays["inclusion_probability"]) > 0.99  # all pixels are kept
    assert complaints == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.png", b"no image", "Expected an image file"),
        ("large.png", bytes(2**21), "size"),
    ],
)
def test_what_cannot_be_explained(
    name: str, content: bytes, said: str, opened: tuple[BrowserPage, list[str]], tmp_path: Path
) -> None:
    page, _ = opened
    (tmp_path / name).write_bytes(content)
    if page.locator("#photo button[aria-label='Remove Image']").count():
        page.locator("#photo button[aria-label='Remove Image']").click()
    page.locator("#photo input[type=file]").set_input_files(tmp_path / name)
    toast = page.locator(".toast-body").last
    expect(toast).to_contain_text(said, timeout=SECONDS)
    assert "Traceback" not in toast.inner_text()
    page.locator(".toast-close").last.click()


def test_a_photograph_of_ones_own(opened: tuple[BrowserPage, list[str]], tmp_path: Path) -> None:
    page, _ = opened
    picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "mine.png")
    if page.locator("#photo button[aria-label='Remove Image']").count():
        page.locator("#photo button[aria-label='Remove Image']").click()
        expect(page.locator("#bars .row")).to_have_count(0)
    page.locator("#photo input[type=file]").set_input_files(tmp_path / "mine.png")
    expect(page.locator("#bars .row")).to_have_count(3, timeout=SECONDS)


def test_other_methods_are_asked_what_was_answered() -> None:
    """Not what the widgets say since, such as a share of the pixels not yet let go of."""
    page = Page(answers())
    explanation, target, *_ = page.explain(str(example_files(None)[0]), 1, 20, "mean")
    assert (explanation.fraction, target) == (0.2, 1)
    (compare,) = [f for f in page.build().fns.values() if f.name == "compare"]
    assert {type(one).__name__ for one in compare.inputs} == {"State"}
    page.close()


def test_other_methods_are_not_shown_beside_a_later_explanation() -> None:
    """Whoever uploads a photograph while others are compared sees none of that comparison."""
    page = Page(answers())
    first, second = (
        page.explain(str(example_files(None)[0]), target, 20, "mean")[0] for target in (0, 1)
    )
    compared = page.compare(first, 0)
    assert "SmoothGrad" in page.beside(first, compared)
    assert page.beside(second, compared) == page.beside(None, compared) == ""
    page.close()


def test_old_files_for_download_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_vae.app.page._MOST_OFFERED", 2)
    page = Page(answers())
    explanation = page.answers.explain(str(example_files(None)[0]), None, 0.1)
    for _ in range(3):
        page.offer(explanation)
    assert len(list(page.files.iterdir())) == 2
    page.close()


def test_maps_of_a_large_photograph_are_offered_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(tmp_path / "large.png")
    page = Page(answers())
    explanation = page.answers.explain(str(tmp_path / "large.png"), None, 0.1)
    page.offer(explanation)
    (file,) = page.files.glob("*/explanation.npz")
    with np.load(file) as maps:
        assert maps["mean"].shape == (512, 1024)
        assert maps["samples"].shape == (3, 512, 1024)
        assert np.isfinite(maps["mean"]).mean() == pytest.approx(32 * 32 / (40 * 80), abs=0.01)
    page.close()


class Taken:
    """What Gradio does where the port is not free."""

    def queue(self, **_: Any) -> "Taken":
        return self

    def launch(self, **_: Any) -> None:
        raise OSError("Cannot find empty port in range: 7860-7860.\nTry another.")


def test_a_taken_port_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(answers())
    monkeypatch.setattr(page, "build", Taken)
    with pytest.raises(
        ValueError, match=r"^Expected port=7860 of host=127\.0\.0\.1 to be free"
    ) as error:
        launch(page, AppConfig())
    assert "\n" not in str(error.value)
    page.close()


def test_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=r"saliency-vae\[app\]"):
        Page(answers())
