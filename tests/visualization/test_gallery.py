"""The gallery, in a real browser."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from saliency_vae.data import Preprocessing
from saliency_vae.visualization import FRACTIONS, Explanation, Prediction, Sample, gallery
from saliency_vae.visualization.gallery import ReadEntry, write_gallery
from saliency_vae.visualization.gallery_entry import Entry
from tests.helpers.browser import Visit, chromium, visit
from tests.helpers.explanations import explanation as explained
from tests.helpers.explanations import measured, source

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
    target: str | None = None,
    out_of_depth: bool | None = None,
    predictions: Prediction = (("cat", 0.75), ("dog", 0.2), ("eel", 0.0001)),
    samples: Sequence[torch.Tensor] = (),
) -> Explanation:
    """Explain a white image over a black baseline image."""
    mean = ramp() if mean is None else mean
    if inclusion is None:
        inclusion = torch.linspace(0, 1, mean.shape[-1]).expand(mean.shape)
    made = explained(
        source(name, np.full((3, H, W), 255, dtype=np.uint8)),
        torch.stack([mean, mean, inclusion]),
        image=torch.ones(3, H, W) if image is None else image,
        prediction=predictions,
        sufficiency=[sufficiency * fraction / 0.1 for fraction in FRACTIONS],
    )
    return replace(
        made,
        target=target,
        out_of_depth=out_of_depth,
        drawn=[
            Sample(scores, made.kept, measured(sufficiency=0.9 / n))
            for n, scores in enumerate(samples, start=1)
        ],
        baseline=torch.zeros(3, H, W) if baseline is None else baseline,
    )


def make_entry(name: str = "a.png", *, file: str = "", **values: Any) -> Entry:
    return Entry.of(make_explanation(name, **values), file=file)


def readers(*entries: Entry) -> list[tuple[float, ReadEntry]]:
    """Entries as write_gallery takes them."""
    return [(entry.sufficiency, entry.to_json) for entry in entries]


# ---- entries


def test_an_entry_is_json_in_ascii() -> None:
    entry = make_entry(HOSTILE, predictions=[(HOSTILE_LABEL, 0.1)], file="bad\udcff.png")
    text = entry.to_json()
    assert text.isascii()
    fields = json.loads(text)
    assert fields["name"] == HOSTILE
    assert fields["predictions"] == [[HOSTILE_LABEL, 0.1]]
    assert fields["file"] == "bad\udcff.png"
    assert base64.b64decode(fields["image"]) == entry.image
    assert {name: base64.b64decode(fields["maps"][name]) for name in entry.maps} == entry.maps


def test_maps_hold_rank_mean_stddev_inclusion_and_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(H, W, generator=generator)
    inclusion = torch.rand(H, W, generator=generator)
    samples = torch.randn(2, H, W, generator=generator)
    entry = make_entry(mean=mean, inclusion=inclusion, samples=list(samples))
    maps = {name: decoded(picture) for name, picture in entry.maps.items()}
    for fraction in (0.01, 0.02, 0.1, 0.25, 0.5):
        kept = maps["rank"] <= 255 * fraction**0.5
        count = round(fraction * H * W)
        exact = mean.numpy() >= np.sort(mean.numpy(), axis=None)[-count]
        assert np.mean(kept != exact) < 0.003, fraction
    for name, values in {
        "mean": mean, "inclusion": inclusion, "sample 1": samples[0], "sample 2": samples[1]
    }.items():  # fmt: skip
        low, high = entry.scales[name]
        shown = low + maps[name] / 255 * (high - low)
        np.testing.assert_allclose(shown, values.numpy(), atol=0.51 / 255 * (high - low))
    assert entry.scales["mean"] == pytest.approx((float(mean.min()), float(mean.max())))
    assert entry.scales["sample 1"] == entry.scales["sample 2"]
    assert entry.scales["inclusion"] == (0, 1)


def test_the_border_of_the_stddev_is_not_shown_and_not_on_its_scale() -> None:
    stddev = torch.full((H, W), 9.0)
    stddev[3:-3, 3:-3] = torch.rand(H - 6, W - 6, generator=torch.Generator().manual_seed(0))
    entry = make_entry(mean=stddev)  # all three maps are this one
    grey, alpha = np.moveaxis(decoded(entry.maps["stddev"]), -1, 0)
    inside = np.zeros((H, W), dtype=bool)
    inside[3:-3, 3:-3] = True
    np.testing.assert_array_equal(alpha, 255 * inside)
    low, high = entry.scales["stddev"]
    assert low == 0
    assert high == pytest.approx(float(stddev[inside].max()))
    np.testing.assert_allclose(grey[inside] / 255 * high, stddev[inside], atol=0.51 / 255 * high)


def test_pictures_are_averaged_down_to_160_pixels() -> None:
    size = (320, 480)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    item = make_entry(
        image=image, baseline=image, mean=ramp(*size), inclusion=torch.full(size, 0.5)
    )
    for picture in (item.image, item.baseline, *item.maps.values()):
        assert decoded(picture).shape[:2] == (107, 160)
    assert set(np.unique(decoded(item.maps["inclusion"]))) == {128}
    exact = image.view(3, 320, 160, 3).mean(-1)[:, :318].view(3, 106, 3, 160).mean(2)
    assert abs(decoded(item.image)[:106].mean() / 255 - float(exact.mean())) < 0.01
    assert decoded(item.image).std() / 255 < 0.5 * float(image.std())


def test_constant_map_has_an_entry() -> None:
    maps = make_entry(mean=torch.zeros(H, W)).maps
    assert decoded(maps["rank"])[0, 0] == 0
    assert decoded(maps["mean"]).max() == 0


def test_the_classifiers_part_of_the_whole_image_is_known() -> None:
    made = make_explanation()
    cropped = replace(
        made.source,
        size=(80, 200),
        preprocessing=Preprocessing(resize_size=H, crop_size=(H, W)),
        shown=np.zeros((3, 80, 200), dtype=np.uint8),
    )
    entry = Entry.of(replace(made, source=cropped))
    assert entry.size == (200, 80)
    assert entry.view == pytest.approx((0.2, 0, 0.6, 1))
    assert decoded(entry.whole).shape == (80, 200, 3)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one size. Found \[\(1, 2\), \(40, 60\)\]"):
        make_entry(mean=torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"finite explanation of a\.png"):
        make_entry(mean=ramp() / 0)
    with pytest.raises(ValueError, match=r"finite explanation of a\.png"):
        make_entry(sufficiency=float("nan"))
    of_score = make_explanation(target="margin")
    score = [replace(one, is_probability=False) for one in of_score.curve]
    with pytest.raises(ValueError, match=r"class as target, for a gallery\. Found margin, a score"):
        Entry.of(replace(of_score, measured=score[2], curve=score))


# ---- pages


def test_failed_writing_leaves_the_old_page(tmp_path: Path) -> None:
    entries = readers(make_entry("a.png"), make_entry("b.png"))
    index = write_gallery(entries, tmp_path, title="first")
    before = index.read_bytes()

    def unreadable() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_gallery([*entries, (0.9, unreadable)], tmp_path, title="second")
    assert index.read_bytes() == before
    assert list(tmp_path.iterdir()) == [index]


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
    return page.locator("#images h2").all_text_contents()


def visible_names(page: Page) -> list[str]:
    return page.locator("#images h2:visible").all_text_contents()


def card(page: Page, name: str) -> Locator:
    return page.locator(".card").filter(has=page.get_by_role("heading", name=name, exact=True))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


LABELS = {"image 10.png": "cat", "image 9.png": "dog"}


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    Image.new("RGB", (900, 600), (255, 0, 0)).save(tmp_path / "image #10.png")
    entries = (
        make_entry(
            "image 10.png",
            sufficiency=0.2,
            file="image #10.png",
            samples=[ramp(), ramp().flip(0, 1)],
        ),
        make_entry(
            "image 9.png",
            sufficiency=0.9,
            file="gone.png",
            predictions=[("cat", 0.9996), ("dog", 0.0001)],
        ),
        make_entry(
            HOSTILE,
            sufficiency=0.4,
            target=HOSTILE_LABEL,
            out_of_depth=True,
            predictions=[(HOSTILE_LABEL, 0.5)],
        ),
    )
    index = write_gallery(
        readers(*entries),
        tmp_path,
        title="<b>Title</b> & <script>window.pwned = 1</script>",
        label=lambda name: LABELS.get(name, ""),
        panel=lambda name: HOSTILE_PANEL if name == HOSTILE else "",
        broken=["<b>.png: no image", "b.png: cut off"],
    )
    with visit(browser, index) as found:
        found.page.locator(":nth-match(.kept[aria-label], 3)").wait_for()
        yield found


def test_page_is_quiet_and_quotes_what_it_is_given(opened: Visit) -> None:
    page = opened.page
    assert opened.complaints == []
    assert page.locator("h1").inner_text() == "<b>Title</b> & <script>window.pwned = 1</script>"
    assert page.locator("header p").all_inner_texts() == ["3 images"]
    assert names(page)[1] == HOSTILE
    assert page.evaluate("window.pwned") is None
    shown = card(page, HOSTILE)
    assert shown.locator(".predictions li").all_inner_texts() == [f"{HOSTILE_LABEL}\n50.0 %"]
    assert shown.locator(".target").inner_text() == f"asked about: {HOSTILE_LABEL} (75.0 %)"
    link = shown.get_by_role("link").get_attribute("href")
    assert link is not None
    assert unquote(link) == HOSTILE_PANEL
    assert not set(link) & set("#?<>")


def test_card_says_what_it_knows(opened: Visit) -> None:
    shown = card(opened.page, "image 9.png")
    assert shown.locator(".target").inner_text() == ""
    assert shown.locator(".measured").inner_text() == "sufficiency 0.90, necessity 0.25"
    assert not shown.locator(".unlike").is_visible()
    unlike = card(opened.page, HOSTILE).locator(".unlike")
    assert unlike.inner_text() == "unlike the training's images"
    assert opened.page.locator("#legend .of-unlike").is_visible()
    assert shown.get_by_role("link").count() == 0
    lines = [text.split("\n") for text in shown.locator(".predictions li").all_inner_texts()]
    assert lines == [["cat", "> 99.9 %"], ["dog", "< 0.1 %"]]
    labels = [canvas.get_attribute("aria-label") for canvas in shown.locator("canvas").all()]
    assert labels == ["Mean", "Kept 10 %", "Left out 10 %"]
    original = shown.get_by_role("img", name="Image")
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
        numbers = f"sufficiency {0.9 * percent / 10:.2f}, necessity 0.25"
        expect(card(page, "image 9.png").locator(".measured")).to_have_text(numbers)
        for canvas in page.locator("canvas.left-out").all():
            assert abs(pixels(canvas).mean() / 255 - (1 - percent / 100)) < 0.004
        for canvas in page.locator("canvas.kept").all():
            view = pixels(canvas)
            assert set(np.unique(view)) == {0, 255}
            assert abs(view.mean() / 255 - percent / 100) < 0.004
            kept = view[..., 0].ravel() == 255  # white: the image; black: the baseline
            assert not kept[: (~kept).sum()].any(), "the last pixels are the most salient"


def test_the_map_is_chosen(opened: Visit) -> None:
    page = opened.page
    mean = pixels(page.locator("canvas.overlay").first).astype(int)
    # Yellow where the map is high, blue where it is low.
    assert mean[-1, -1, 2] < mean[-1, -1, 0] - 100
    assert mean[0, 0, 2] > mean[0, 0, 1]
    page.get_by_role("radio", name="Mean").focus()
    page.keyboard.press("ArrowRight")
    page.locator("figcaption").get_by_text("Standard deviation").first.wait_for()
    stddev = pixels(page.locator("canvas.overlay").first).astype(int)
    assert (stddev[:3] == 255).all(), "the image itself at the border"
    assert stddev[4, 4].max() < 160, "dark where it is low"
    page.keyboard.press("ArrowRight")
    page.locator("figcaption").get_by_text("Inclusion probability").first.wait_for()
    left, right = pixels(page.locator("canvas.overlay").first)[H // 2, [0, -1]].astype(int)
    assert right[0] > right[2] + 100
    assert left[2] > left[0]


def test_samples_are_maps_too(opened: Visit) -> None:
    shown = card(opened.page, "image 10.png")
    one, other = (pixels(shown.get_by_role("img", name=f"Sample {n}")).astype(int) for n in (1, 2))
    np.testing.assert_array_equal(one, other[::-1, ::-1])
    assert one[-1, -1, 2] < one[-1, -1, 0] - 100
    assert card(opened.page, "image 9.png").get_by_role("img", name="Sample 1").count() == 0


def test_samples_say_what_was_measured_of_them(opened: Visit) -> None:
    shown = card(opened.page, "image 10.png")
    for number, sufficiency in ((1, "0.90"), (2, "0.45")):
        text = f"Sample {number}, 10 % kept: sufficiency {sufficiency}, necessity 0.25"
        assert shown.get_by_text(text, exact=True).count() == 1


def test_an_entry_of_an_earlier_version_has_samples_without_numbers(
    browser: Browser, tmp_path: Path
) -> None:
    fields = json.loads(make_entry(samples=[ramp()]).to_json())
    del fields["samples"]
    index = write_gallery([(0.5, lambda: json.dumps(fields))], tmp_path, title="earlier")
    with visit(browser, index) as found:
        found.page.get_by_role("img", name="Sample 1", exact=True).wait_for()
        assert found.complaints == []


def test_broken_images_are_named(opened: Visit) -> None:
    page = opened.page
    page.get_by_text("2 could not be explained").click()
    lines = page.locator(".broken li").all_inner_texts()
    assert lines == ["<b>.png: no image", "b.png: cut off"]


def test_right_and_wrong(opened: Visit) -> None:
    page = opened.page
    assert card(page, "image 10.png").locator(".label").inner_text() == "right: it is cat"
    assert card(page, "image 9.png").locator(".label").inner_text() == "wrong: it is dog"
    truth = page.get_by_label("Prediction is")
    for option, expected in (("wrong", "image 9.png"), ("unknown", HOSTILE)):
        truth.select_option(option)
        assert visible_names(page) == [expected]
    assert page.locator("#count").inner_text() == "1 of 3 shown"


def test_filters(opened: Visit) -> None:
    page = opened.page
    page.locator("#predicted").select_option("cat (2)")
    assert visible_names(page) == ["image 10.png", "image 9.png"]
    page.get_by_role("spinbutton", name="from").fill("0.2")
    page.get_by_role("spinbutton", name="to").fill("0.5")
    assert visible_names(page) == ["image 10.png"]
    page.get_by_label("Number to filter by").select_option("Probability of the class")
    assert visible_names(page) == []
    page.get_by_role("button", name="Show all").click()
    assert len(visible_names(page)) == 3
    page.get_by_role("spinbutton", name="from").fill("0.8")
    assert visible_names(page) == ["image 9.png"]


def test_filter_and_order_follow_the_slider(opened: Visit) -> None:
    page = opened.page
    page.get_by_role("spinbutton", name="from").fill("0.8")
    assert visible_names(page) == ["image 9.png"]
    page.get_by_role("slider", name="Kept").focus()
    page.keyboard.press("End")  # eight times the pixels
    assert visible_names(page) == ["image 10.png", HOSTILE, "image 9.png"]


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.getAttribute('aria-label')")
    return found


def test_search(opened: Visit) -> None:
    page = opened.page
    page.keyboard.press("/")
    page.keyboard.type("IMAGE 1")
    assert visible_names(page) == ["image 10.png"]
    page.keyboard.press("Enter")
    assert focused(page) == "image 10.png"
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert len(visible_names(page)) == 3
    page.keyboard.type("a/b")  # no second search
    assert page.get_by_role("searchbox").input_value() == "a/b"


def test_arrows_move_from_image_to_image(opened: Visit) -> None:
    page = opened.page
    for keys, expected in (
        ("ArrowRight", "image 10.png"),
        ("ArrowRight", HOSTILE),
        ("ArrowDown", HOSTILE),  # two columns, and nothing below
        ("ArrowLeft", "image 10.png"),
        ("ArrowLeft", "image 10.png"),
        ("ArrowDown", "image 9.png"),
        ("ArrowUp", "image 10.png"),
        ("End", "image 9.png"),
        ("Home", "image 10.png"),
    ):
        page.keyboard.press(keys)
        assert focused(page) == expected, keys
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2
    page.get_by_role("spinbutton", name="from").focus()
    page.keyboard.press("Tab")
    assert page.get_by_role("spinbutton", name="to").evaluate("e => e === document.activeElement")


def test_an_image_is_enlarged(opened: Visit) -> None:
    page, dialog = opened.page, opened.page.get_by_role("dialog")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog.get_by_role("heading", name="image 10.png").wait_for()
    image = dialog.locator("img")
    image.evaluate("i => i.decode()")
    assert image.evaluate("i => [i.naturalWidth, i.naturalHeight]") == [900, 600]
    href = dialog.get_by_role("link", name="Open the image").get_attribute("href")
    assert unquote(href or "") == "image #10.png"
    assert dialog.locator(".range").last.inner_text() == "Mean: from 0 to 2400"
    dialog.get_by_role("radio", name="Kept").check()
    view = dialog.locator("canvas").evaluate(
        "c => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    covered = np.array(view).reshape(H, W, 4)[..., 3] > 0  # by the baseline image
    assert abs(covered.mean() - 0.9) < 0.004
    dialog.get_by_role("radio", name="Sample 2").check()
    dialog.get_by_role("button", name="Close").focus()
    page.keyboard.press("ArrowRight")
    dialog.get_by_role("heading", name=HOSTILE).wait_for()
    page.keyboard.press("ArrowRight")
    dialog.get_by_role("heading", name="image 9.png").wait_for()
    dialog.locator("img[src^='data:']").wait_for()
    image.evaluate("i => i.decode()")
    assert image.evaluate("i => i.naturalWidth") == W, "the gallery's own picture"
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    # The page's `close` event follows: Chromium first focuses the card it was opened from.
    expect(card(page, "image 9.png")).to_be_focused()
    assert [text for text in opened.complaints if "ERR_FILE_NOT_FOUND" not in text] == []
    card(page, "image 10.png").locator(".views").click()
    dialog.get_by_role("heading", name="image 10.png").wait_for()
    dialog.get_by_role("button", name="Next image").click()
    dialog.get_by_role("heading", name=HOSTILE).wait_for()
    dialog.get_by_role("button", name="Close").click()
    dialog.wait_for(state="hidden")


def test_the_frame_marks_what_the_classifier_saw(browser: Browser, tmp_path: Path) -> None:
    fields = json.loads(make_entry().to_json())
    cropped = fields | {"size": [200, 80], "view": [0.2, 0, 0.6, 1], "name": "cropped.png"}
    entries = [(0.5, partial(json.dumps, entry)) for entry in (fields, cropped)]
    with visit(browser, write_gallery(entries, tmp_path, title="crop")) as found:
        frame = card(found.page, "cropped.png").locator(".frame")
        outer, inner = frame.bounding_box(), frame.locator("i").bounding_box()
        assert outer is not None
        assert inner is not None
        assert inner["width"] / outer["width"] == pytest.approx(0.6, abs=0.02)
        assert (inner["x"] - outer["x"]) / outer["width"] == pytest.approx(0.2, abs=0.02)
        assert outer["width"] / outer["height"] == pytest.approx(2.5, abs=0.05)
        assert not card(found.page, "a.png").locator(".frame i").is_visible()


def test_the_size_of_the_pictures(opened: Visit) -> None:
    page, size = opened.page, opened.page.get_by_role("slider", name="Size")
    widths = []
    for keys in ("Home", "End"):
        size.press(keys)
        widths.append(page.locator("canvas.kept").first.evaluate("c => c.clientWidth"))
    assert widths[0] >= 100
    assert widths[1] >= 300


@pytest.mark.parametrize("width", [420, 1000])
def test_a_narrow_window_needs_no_sideways_scrolling(opened: Visit, width: int) -> None:
    page = opened.page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


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
    images, fields = gallery.PAGE + 2, json.loads(make_entry().to_json())

    def numbered(i: int) -> str:
        return json.dumps(fields | {"name": f"{i}.png", "sufficiency": 1 - i / images})

    entries = [(1 - i / images, partial(numbered, i)) for i in range(images)]
    (tmp_path / "index_3.html").touch()  # of an earlier, larger gallery
    index = write_gallery(iter(entries), tmp_path, title="many")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "index_2.html"]
    with visit(browser, index) as found:
        page = found.page
        shown = names(page)
        assert shown == [f"{i}.png" for i in range(images - 1, 1, -1)]
        assert page.get_by_text(f"Images 1 to 200 of {images}, from the least").count() == 1
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


def test_many_pages_are_linked_briefly() -> None:
    assert gallery._linked(2, 3) == [1, 2, 3]
    assert gallery._linked(250, 500) == [1, 100, 200, *range(247, 254), 300, 400, 500]
