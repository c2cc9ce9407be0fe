"""The report in a real browser, and the ranking on a terminal."""

import base64
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from playwright.sync_api import Browser, Page
from torch import Tensor

from saliency_vae.evaluation.report.charts import figures
from saliency_vae.evaluation.report.page import (
    gallery_rows,
    ranking_rows,
    save_figures,
    write_report,
)
from saliency_vae.evaluation.results import Finding, Results
from saliency_vae.metrics.bootstrap import Interval
from saliency_vae.visualization.content_policy import content_policy
from tests.helpers.browser import Visit, chromium, visit
from tests.helpers.constructed_results import constructed, several

HOSTILE = "<img src=x onerror=window.pwned=1>"
HOSTILE_TEXT = "</script><script>window.pwned = 1</script> & <b>bold</b>"


def full() -> Results:
    """Results with everything that a report can show, names and texts being markup."""
    results = several()
    for by_method in (*results.values.values(), *results.curves.values()):
        by_method[HOSTILE] = by_method["grad_cam"] * 0.55
    results.seconds[HOSTILE] = 2.0
    results.memory[HOSTILE] = 1e6
    results.findings = [
        Finding("better", "Insertion: ours wins."),
        Finding("level", "Level."),
        Finding("worse", HOSTILE_TEXT),
    ]
    results.uncertainty_findings = [Finding("worse", "It is beaten by its control.")]
    half = Interval(*(torch.tensor(value) for value in (0.5, 0.4, 0.6)))
    results.uncertainty = {
        "spearman_top": {"ours, P(1-P)": half, "control, it": half},
        "ece": {"ours, P(1-P)": half},
    }
    line = {"ours, P(1-P)": [1.0, 0.5], "control, it": [1.0, 0.7], "oracle": [1.0, 0.1]}
    results.uncertainty_curves = {
        "sparsification_top": {"removed": [0.0, 0.5], **line},
        "sparsification_rank": {"removed": [0.0, 0.5], **line},
        "selective": {"rejected": [0.0, 0.5], **line},
        "reliability": {"predicted": [0.1, 0.9], "observed": [0.2, 0.8], "share": [0.5, 0.5]},
    }
    results.about |= {
        "classifier": HOSTILE,
        "ours": "small: UNet(channels=[4, 8])",
        "command": HOSTILE_TEXT,
    }
    results.left_out = [f"{HOSTILE_TEXT}: cannot."]
    return results


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def write(results: Results, path: Path, images: int = 3) -> Path:
    maps = {method: noise(images, 24, 24) for method in results.ranking()}
    rows = gallery_rows(noise(images, 3, 24, 24), maps, noise(images, 24, 24) > 0.5, results)
    charts = save_figures(figures(results), path.with_suffix(""))
    write_report(results, charts, rows if images else [], path)
    return path


@pytest.fixture(scope="module")
def page_of_everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(full(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def opened(browser: Browser, page_of_everything: Path) -> Iterator[Visit]:
    with visit(browser, page_of_everything, width=1280) as found:
        yield found


@pytest.fixture
def fresh(browser: Browser, page_of_everything: Path) -> Iterator[Page]:
    """A page of one's own, to be changed."""
    with visit(browser, page_of_everything, width=1280) as found:
        yield found.page


def column(page: Page, index: int) -> list[str]:
    cells = page.locator(f"#ranking tbody td:nth-child({index + 1})").all_inner_texts()
    return [text.splitlines()[0] for text in cells]


def click(page: Page, heading: str) -> list[str]:
    """Sort by a heading; the methods from top to bottom."""
    page.locator("#ranking").get_by_role("button", name=heading).click()
    return column(page, 0)


def test_page_is_quiet_and_loads_nothing(opened: Visit) -> None:
    assert opened.complaints == []
    assert opened.page.evaluate("performance.getEntriesByType('resource').length") == sum(
        1 for source in sources(opened.page) if not source.startswith("data:")
    )
    assert all(source.startswith("data:") for source in sources(opened.page))


def sources(page: Page) -> list[str]:
    found: list[str] = page.evaluate("[...document.images].map((image) => image.src)")
    return found


def test_every_picture_is_shown(opened: Visit) -> None:
    sizes = opened.page.evaluate("[...document.images].map((i) => [i.naturalWidth, i.alt])")
    assert all(width > 0 and alt for width, alt in sizes)
    # Six charts; three images with mask, by six methods.
    assert len(sizes) == 6 + 3 * (2 + 6)


def test_markup_in_names_is_text(opened: Visit) -> None:
    page = opened.page
    assert page.evaluate("window.pwned") is None
    assert HOSTILE in page.locator("h1").inner_text()
    assert HOSTILE in column(page, 0)
    assert page.locator("#gallery th").all_inner_texts().count(HOSTILE) == 1
    assert page.locator(".findings li").nth(2).inner_text().endswith(HOSTILE_TEXT)
    assert page.locator("h1 img, #ranking img, dd b").count() == 0


def test_findings_come_first_with_their_verdicts(opened: Visit) -> None:
    page = opened.page
    assert page.locator(".findings").first.locator(".tag").all_inner_texts() == [
        "better",
        "level",
        "worse",
    ]
    top = page.locator(".findings").first.bounding_box()
    table = page.locator("#ranking").bounding_box()
    assert top is not None
    assert table is not None
    assert top["y"] < table["y"]
    colours = {
        page.locator(f".tag.{verdict}").first.evaluate("tag => getComputedStyle(tag).color")
        for verdict in ("better", "level", "worse")
    }
    assert len(colours) == 3


def test_configuration_is_named(opened: Visit) -> None:
    assert "Ours is the configuration small: UNet(channels=[4, 8])" in opened.page.inner_text(
        "header"
    )


def test_ranking_is_by_insertion_with_intervals_and_best_marked(opened: Visit) -> None:
    page = opened.page
    assert column(page, 0) == ["oracle", "ours", "RISE", "Grad-CAM", HOSTILE, "random"]
    assert column(page, 1) == [".950", ".800", ".700", ".600", ".330", ".200"]
    interval = page.locator("#ranking tr.ours small").first.inner_text()
    assert re.fullmatch(r"\[\.7\d\d, \.8\d\d\]", interval)
    best = page.locator("#ranking td.best").all_inner_texts()
    assert [text.splitlines()[0] for text in best] == [".800", ".200", ".800"]
    assert page.locator("#ranking tr.control td:first-child").all_inner_texts() == [
        "oracle",
        "random",
    ]


def test_a_click_sorts_the_best_first_and_another_the_worst(fresh: Page) -> None:
    page = fresh
    by_merit = ["oracle", "ours", "RISE", "Grad-CAM", HOSTILE, "random"]
    assert click(page, "Insertion AUC") == by_merit
    heading = page.locator("#ranking th", has_text="Insertion AUC")
    assert heading.get_attribute("aria-sort") == "descending"
    assert click(page, "Insertion AUC") == by_merit[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    assert click(page, "ms") == ["random", "Grad-CAM", "ours", "oracle", "RISE", HOSTILE]
    assert heading.get_attribute("aria-sort") is None
    deletion = click(page, "Deletion AUC")
    assert deletion[:2] == ["oracle", "ours"]  # the lowest first
    assert click(page, "Method") == sorted(by_merit, key=str.lower)


def test_sorting_by_the_keyboard(fresh: Page) -> None:
    button = fresh.locator("#ranking").get_by_role("button", name="Deletion AUC")
    button.focus()
    fresh.keyboard.press("Enter")
    assert fresh.locator("#ranking th[aria-sort]").inner_text().startswith("Deletion")


def test_what_was_left_out_and_how_it_was_made(opened: Visit) -> None:
    text = opened.page.inner_text("body")
    assert f"{HOSTILE_TEXT}: cannot." in text
    assert "8 steps." in text


def test_uncertainty_has_its_numbers_beside_the_controls(opened: Visit) -> None:
    page = opened.page
    assert "It is beaten by its control." in page.inner_text("body")
    table = page.locator("table", has_text="Uncertainty").last
    assert table.locator("tbody tr").count() == 2
    assert table.locator("tbody tr").nth(0).locator("td").all_inner_texts()[1].startswith(".500")
    assert table.locator("tbody tr").nth(1).locator("td").all_inner_texts()[2] == ""


def test_dark_mode_and_small_screens(browser: Browser, page_of_everything: Path) -> None:
    with visit(browser, page_of_everything, dark=True, width=400) as found:
        page = found.page
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in re.findall(r"\d+", background)) < 40
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 400, "the page itself must not scroll sideways"
        assert found.complaints == []


def test_default_columns_fit_1280_pixels(browser: Browser, tmp_path: Path) -> None:
    methods = dict.fromkeys(["ours", "per_image", "integrated_gradients", "rise"], 0.5)
    metrics = (
        "insertion deletion agreement_5 agreement_10 agreement_20 pointing_game iou "
        "relevance_mass relevance_rank sparsity own_mask insertion_mean deletion_mean "
        "insertion_zero deletion_zero"
    )
    results = constructed(dict.fromkeys(metrics.split(), methods), seconds={"rise": 1.2})
    with visit(browser, write(results, tmp_path / "report.html"), width=1280) as found:
        shown, whole = found.page.locator(".scroll").first.evaluate(
            "box => [box.clientWidth, box.scrollWidth]"
        )
        assert whole <= shown
        assert found.page.locator("#ranking th", has_text="Insertion AUC").count() == 1


def test_other_removals_have_a_table_of_their_own(browser: Browser, tmp_path: Path) -> None:
    means = {"ours": 0.5, "rise": 0.6, "random": 0.1}
    results = constructed({"insertion": means, "insertion_zero": means, "deletion_zero": means})
    with visit(browser, write(results, tmp_path / "report.html"), width=1280) as found:
        table = found.page.locator("#removals")
        assert table.locator("th").all_inner_texts() == [
            "Method",
            "Insertion AUC (zero)\u00a0↑",
            "Deletion AUC (zero)\u00a0↓",
        ]
        rows = [row.split() for row in table.locator("tbody tr").all_inner_texts()]
        assert [row[:2] for row in rows] == [["RISE", ".600"], ["ours", ".500"], ["random", ".100"]]
        best = table.locator("td.best").all_inner_texts()
        assert [text.splitlines()[0] for text in best] == [".600", ".100"]
        assert found.page.locator("#ranking tbody tr").first.locator("td").count() == 1 + 1 + 2


def test_a_report_without_gallery_uncertainty_or_ours(browser: Browser, tmp_path: Path) -> None:
    results = constructed({"insertion": {"rise": 0.5, "gradient": 0.4}})
    with visit(browser, write(results, tmp_path / "report.html", images=0)) as found:
        assert found.complaints == []
        headings = found.page.locator("h2").all_inner_texts()
        assert headings == [
            "Ranking",
            "Insertion and deletion",
            "Speed and quality",
            "How this was measured",
        ]
        assert found.page.locator(".findings").count() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "report.html"]


def test_the_policy_allows_this_script_and_no_other(
    browser: Browser, page_of_everything: Path, tmp_path: Path
) -> None:
    path = tmp_path / "changed.html"
    text = page_of_everything.read_text()
    path.write_text(text.replace("<h1>", "<script>window.pwned = 1</script><h1>"))
    with visit(browser, path) as found:
        assert found.page.evaluate("window.pwned") is None
        assert any("Content Security Policy" in complaint for complaint in found.complaints)


def test_policy_hashes_style_and_script() -> None:
    policy = content_policy("<style>a{}</style><script>b()</script>")
    assert "script-src 'sha256-" in policy
    assert "unsafe" not in policy
    assert policy != content_policy("<style>a{}</style><script>c()</script>")


# ---- its parts


def picture(source: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(source.partition(",")[2])))


def test_gallery_pictures_are_the_maps_over_their_own_range() -> None:
    results = several()
    values = torch.linspace(-3, 5, 24 * 24).view(1, 24, 24)
    images, masks = noise(1, 3, 24, 24), noise(1, 24, 24) > 0.5
    rows = gallery_rows(images, {"ours": values, "random": 0 * values}, masks, results)
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("image", "given"),
        ("true mask", "given"),
        ("ours", "ours"),
        ("random", "control"),
    ]
    photo, mask, ours, flat = (np.asarray(picture(r["pictures"][0]).convert("RGB")) for r in rows)
    np.testing.assert_allclose(
        photo / 255, images[0].permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6
    )
    assert np.array_equal(mask[..., 0] > 127, masks[0].numpy())
    viridis = colormaps["viridis"]
    assert ours[0, 0].tolist() == list(viridis(0, bytes=True)[:3])
    assert ours[-1, -1].tolist() == list(viridis(255, bytes=True)[:3])
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1


def test_large_maps_are_shrunk() -> None:
    rows = gallery_rows(noise(1, 3, 320, 480), {"ours": noise(1, 320, 480)}, None, several())
    assert [picture(row["pictures"][0]).size for row in rows] == [(160, 107), (160, 107)]


def test_ties_are_all_marked() -> None:
    results = constructed({"insertion": {"ours": 0.5, "rise": 0.5, "random": 0.1}})
    marked = {row["name"]: row["cells"]["insertion"]["best"] for row in ranking_rows(results)}
    assert marked == {"ours": True, "RISE": True, "random": False}
