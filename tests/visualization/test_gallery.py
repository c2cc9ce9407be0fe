"""The gallery, in a real browser."""

import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from saliency_vae.visualization import FRACTIONS, Explanation, Prediction, gallery
from saliency_vae.visualization.gallery import write_gallery
from saliency_vae.visualization.gallery_entry import Entry
from tests.helpers.browser import Visit, chromium, visit
from tests.helpers.explanations import explanation as explained
from tests.helpers.explanations import source

H, W = 40, 60
HOSTILE = "<img src=x onerror=alert(1)>.png"
HOSTILE_LABEL = "</script><script>window.pwned = 1</script>"
HOSTILE_PANEL = "panels/100% #1? <é>.png"


def decoded(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(BytesIO(picture)))


def ramp(height: int = H, width: int = W) -> torch.Tensor:
    """A map whose least salient pixel is the first and whose most salient pixel is the last."""
    return torch.arange(height * width, dtype=torch.float32).view(height, width)


def make_explanation(
    name: str = "a.png",
    *,
    image: torch.Tensor | None = None,
    baseline: torch.Tensor | None = None,
    mean: torch.Tensor | None = None,
    inclusion: torch.Tensor | None = None,
    sufficiency: float = 0.5,
    predictions: Prediction = (("cat", 0.75), ("dog", 0.2), ("eel", 0.0001)),
) -> Explanation:
    """Explain a white image over a black baseline image."""
    mean = ramp() if mean is None else mean
    made = explained(
        source(name, np.zeros((3, H, W), dtype=np.uint8)),
        mean.expand(3, -1, -1),
        image=torch.ones(3, H, W) if image is None else image,
        prediction=predictions,
        sufficiency=[sufficiency * fraction / 0.1 for fraction in FRACTIONS],
    )
    return replace(
        made,
        baseline=torch.zeros(3, H, W) if baseline is None else baseline,
        gallery_inclusion=torch.linspace(0, 1, W).expand(H, W) if inclusion is None else inclusion,
    )


def make_entry(name: str = "a.png", *, panel: str | None = None, **values: Any) -> Entry:
    return Entry.of(
        make_explanation(name, **values), panel=f"panels/{name}" if panel is None else panel
    )


def save(directory: Path, *entries: Entry) -> list[Path]:
    paths = [directory / f"{i}.json" for i in range(len(entries))]
    for path, item in zip(paths, entries, strict=True):
        item.save(path)
    return paths


# ---- entries


def test_entry_survives_the_disk(tmp_path: Path) -> None:
    original = make_entry(HOSTILE, predictions=[(HOSTILE_LABEL, 0.1)], panel="bad\udcff.png")
    path = tmp_path / "entry.json"
    original.save(path)
    assert Entry.load(path) == original
    assert list(tmp_path.iterdir()) == [path]


def test_maps_hold_rank_mean_and_uncertainty() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(H, W, generator=generator)
    inclusion = torch.rand(H, W, generator=generator)
    maps = decoded(make_entry(mean=mean, inclusion=inclusion).maps).astype(np.float64)
    for fraction in (0.01, 0.02, 0.1, 0.25, 0.5):
        kept = maps[..., 0] <= 255 * fraction**0.5
        count = round(fraction * H * W)
        exact = mean.numpy() >= np.sort(mean.numpy(), axis=None)[-count]
        assert np.mean(kept != exact) < 0.003, fraction
    spread = (mean - mean.min()) / (mean.max() - mean.min())
    np.testing.assert_allclose(maps[..., 1] / 255, spread.numpy(), atol=0.5 / 255 + 1e-6)
    uncertainty = 4 * inclusion * (1 - inclusion)
    np.testing.assert_allclose(maps[..., 2] / 255, uncertainty.numpy(), atol=0.5 / 255 + 1e-6)


def test_pictures_are_averaged_down_to_160_pixels() -> None:
    size = (320, 480)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    item = make_entry(
        image=image, baseline=image, mean=ramp(*size), inclusion=torch.full(size, 0.5)
    )
    for picture in (item.image, item.baseline, item.maps):
        assert decoded(picture).shape == (107, 160, 3)
    assert decoded(item.maps)[..., 2].min() == 255
    exact = image.view(3, 320, 160, 3).mean(-1)[:, :318].view(3, 106, 3, 160).mean(2)
    assert abs(decoded(item.image)[:106].mean() / 255 - float(exact.mean())) < 0.01
    assert decoded(item.image).std() / 255 < 0.5 * float(image.std())


def test_constant_map_has_an_entry() -> None:
    maps = decoded(make_entry(mean=torch.zeros(H, W)).maps)
    assert maps[0, 0, 0] == 0
    assert maps[..., 1].max() == 0


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one size. Found \[\(1, 2\), \(40, 60\)\]"):
        make_entry(mean=torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"finite explanation of a\.png"):
        make_entry(mean=ramp() / 0)
    with pytest.raises(ValueError, match=r"finite explanation of a\.png"):
        make_entry(sufficiency=float("nan"))


@pytest.mark.parametrize("text", ["", "[1", "3", "é", '{"name": "a"}'])
def test_broken_entry_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected .*broken.json to be a gallery's entry"):
        Entry.load(path)


# ---- pages


def test_failed_writing_leaves_the_old_page(tmp_path: Path) -> None:
    paths = save(tmp_path, make_entry("a.png"), make_entry("b.png"))
    index = write_gallery(paths, tmp_path, title="first")
    before = index.read_bytes()
    names = sorted(tmp_path.iterdir())
    fields = json.loads(paths[1].read_text())
    paths[1].write_text(json.dumps(fields | {"predictions": [["nan", float("nan")]]}))
    with pytest.raises(ValueError, match="JSON compliant"):
        write_gallery(paths, tmp_path, title="second")
    assert index.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == names


def test_no_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one explained image"):
        write_gallery([], tmp_path, title="none")


# ---- in the browser


def pixels(canvas: Locator) -> NDArray[np.uint8]:
    values = canvas.evaluate(
        "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    return np.array(values[2:], dtype=np.uint8).reshape(values[0], values[1], 4)[..., :3]


def names(page: Page) -> list[str]:
    return page.locator("h2").all_text_contents()


def card(page: Page, name: str) -> Locator:
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    entries = (
        make_entry("image 10.png", sufficiency=0.2),
        make_entry("image 9.png", sufficiency=0.9, panel=""),
        make_entry(
            HOSTILE, sufficiency=0.4, predictions=[(HOSTILE_LABEL, 0.5)], panel=HOSTILE_PANEL
        ),
    )
    index = write_gallery(
        save(tmp_path, *entries),
        tmp_path,
        title="<b>Title</b> & <script>window.pwned = 1</script>",
        description=["<i>first</i>", "second \udcff"],
    )
    with visit(browser, index) as found:
        found.page.locator(":nth-match(.kept[aria-label], 3)").wait_for()
        yield found


def test_page_is_quiet_and_quotes_what_it_is_given(opened: Visit) -> None:
    page = opened.page
    assert opened.complaints == []
    assert page.locator("h1").inner_text() == "<b>Title</b> & <script>window.pwned = 1</script>"
    assert page.locator("header p").all_inner_texts() == ["<i>first</i>", "second ?", "3 images"]
    assert names(page)[1] == HOSTILE
    assert page.evaluate("window.pwned") is None
    shown = card(page, HOSTILE)
    assert shown.locator(".predictions li").all_inner_texts() == [f"{HOSTILE_LABEL}\n50 %"]
    link = shown.get_by_role("link").get_attribute("href")
    assert link is not None
    assert unquote(link) == HOSTILE_PANEL
    assert not set(link) & set("#?<>")


def test_card_says_what_it_knows(opened: Visit) -> None:
    shown = card(opened.page, "image 9.png")
    assert shown.locator(".measured").inner_text() == "sufficiency 0.90, necessity 0.25"
    assert shown.get_by_role("link").count() == 0
    lines = [text.split("\n") for text in shown.locator(".predictions li").all_inner_texts()]
    assert lines == [["cat", "75 %"], ["dog", "20 %"], ["eel", "< 0.1 %"]]
    labels = [canvas.get_attribute("aria-label") for canvas in shown.locator("canvas").all()]
    assert labels == ["Mean", "Kept 10 %", "Left out 10 %"]
    original = shown.get_by_role("img", name="Original")
    assert original.evaluate("i => [i.naturalHeight, i.naturalWidth]") == [H, W]


def test_order(opened: Visit) -> None:
    ascending = ["image 10.png", HOSTILE, "image 9.png"]
    assert names(opened.page) == ascending
    order = opened.page.get_by_label("Order")
    order.select_option("Most sufficient first")
    assert names(opened.page) == ascending[::-1]
    order.select_option("Name")
    assert names(opened.page) == [HOSTILE, "image 9.png", "image 10.png"]
    order.select_option("Least sufficient first")
    assert names(opened.page) == ascending


def test_slider_redraws_the_kept_views(opened: Visit) -> None:
    page, slider = opened.page, opened.page.get_by_role("slider", name="Kept")
    slider.focus()
    for keys, percent in (("Home", 2), ("ArrowRight", 5), ("End", 80)):
        page.keyboard.press(keys)
        page.get_by_text(f"Kept {percent} %").first.wait_for()
        assert slider.get_attribute("aria-valuetext") == f"{percent} % of the pixels"
        numbers = card(page, "image 9.png").locator(".measured").inner_text()
        assert numbers == f"sufficiency {0.9 * percent / 10:.2f}, necessity 0.25"
        for canvas in page.locator("canvas.left-out").all():
            assert abs(pixels(canvas).mean() / 255 - (1 - percent / 100)) < 0.004
        for canvas in page.locator("canvas.kept").all():
            view = pixels(canvas)
            assert set(np.unique(view)) == {0, 255}
            assert abs(view.mean() / 255 - percent / 100) < 0.004
            kept = view[..., 0].ravel() == 255  # white: the image; black: the baseline
            assert not kept[: (~kept).sum()].any(), "the last pixels are the most salient"


def test_overlay_shows_mean_or_uncertainty(opened: Visit) -> None:
    page = opened.page
    mean = pixels(page.locator("canvas.overlay").first).astype(int)
    # Yellow where the map is high, blue where it is low.
    assert mean[-1, -1, 2] < mean[-1, -1, 0] - 100
    assert mean[0, 0, 2] > mean[0, 0, 1]
    page.get_by_role("radio", name="Mean").focus()
    page.keyboard.press("ArrowRight")
    page.locator("figcaption").get_by_text("Uncertainty").first.wait_for()
    middle, side = (
        pixels(page.locator("canvas.overlay").first)[H // 2, column].astype(int)
        for column in (W // 2, 0)
    )
    assert middle[2] < middle[0] - 100, "even odds: most uncertain"
    assert side[2] > side[1]


def test_policy_refuses_foreign_scripts_and_requests(opened: Visit) -> None:
    page = opened.page
    assert opened.complaints == []
    page.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.pwned = 1';"
        "document.body.append(s);"
        "new Promise(done => { const i = new Image(); i.onerror = done; document.body.append(i);"
        "i.src = 'http://127.0.0.1:9/x.png'; })"
    )
    assert page.evaluate("window.pwned") is None
    assert any("inline script" in text for text in opened.complaints)
    assert any("127.0.0.1" in text and "Content Security" in text for text in opened.complaints)


def test_many_images_make_linked_pages_drawn_when_seen(browser: Browser, tmp_path: Path) -> None:
    images, fields = gallery.PAGE + 2, json.loads(save(tmp_path, make_entry())[0].read_text())
    paths = [tmp_path / f"{i}.json" for i in range(images)]
    for i, path in enumerate(paths):  # saved from the most sufficient to the least
        numbered = {"name": f"{i}.png", "sufficiency": 1 - i / images}
        path.write_text(json.dumps(fields | numbered))
    index = write_gallery(iter(paths), tmp_path / "pages", title="many")
    assert sorted(path.name for path in index.parent.iterdir()) == ["index.html", "index_2.html"]
    with visit(browser, index) as found:
        page = found.page
        shown = names(page)
        assert shown == [f"{i}.png" for i in range(images - 1, 1, -1)]
        assert page.get_by_text(f"Images 1 to 500 of {images}, from the least").count() == 1
        page.locator(".card:first-child .kept[aria-label]").wait_for()
        assert 0 < page.locator(".kept[aria-label]").count() < 100
        page.locator(".card:last-child").scroll_into_view_if_needed()
        page.locator(".card:last-child .kept[aria-label]").wait_for()
        page.get_by_role("navigation", name="Pages").first.get_by_role("link", name="2").click()
        page.wait_for_url("**/index_2.html")
        page.locator(".card").nth(1).wait_for(state="attached")
        assert names(page) == ["1.png", "0.png"]
        assert page.locator("nav").first.locator("[aria-current=page]").inner_text() == "2"
        page.get_by_role("navigation", name="Pages").last.get_by_role("link", name="1").click()
        page.wait_for_url("**/index.html")
        page.locator(".card").nth(len(shown) - 1).wait_for(state="attached")
        assert names(page) == shown
        assert found.complaints == []
