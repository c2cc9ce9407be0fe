"""The report in a real browser, and the ranking on a terminal."""

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
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
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Values
from saliency_vae.evaluation.verdicts import Comparison, Verdict
from saliency_vae.visualization.html_page import content_policy
from tests.helpers.browser import Visit, chromium, visit
from tests.helpers.constructed_results import (
    RUN_METADATA,
    constructed,
    results,
    several,
    uncertainty,
)

EXPLAINER = "this explainer"
HOSTILE = "<img src=x onerror=window.pwned=1>"
HOSTILE_TEXT = "</script><script>window.pwned = 1</script> & <b>bold</b>"


def full() -> Results:
    """Results with everything that a report can show, names and texts being markup."""
    scores = several()

    def joined(by_metric: Values) -> Values:
        return {
            metric: {**by_method, HOSTILE: by_method["grad_cam"] * 0.55}
            for metric, by_method in by_metric.items()
        }

    scores = replace(
        scores,
        values=joined(scores.values),
        curves=joined(scores.curves),
        seconds={**scores.seconds, HOSTILE: 2.0},
        memory={**scores.memory, HOSTILE: 1e6},
        roles={**scores.roles, HOSTILE: Role.RIVAL},
        left_out=(f"{HOSTILE_TEXT}: cannot.",),
    )
    verdicts = (
        Verdict("better", "Insertion: it wins."),
        Verdict("level", "Level."),
        Verdict("worse", HOSTILE_TEXT),
    )
    beaten = Verdict("worse", "It is beaten by its control.")
    return results(
        scores,
        comparison=Comparison(verdicts),
        uncertainty=replace(uncertainty(), verdicts=(beaten,)),
        run_metadata={
            **RUN_METADATA,
            "classifier": HOSTILE,
            "configuration": "small: UNet(channels=[4, 8])",
            "command": HOSTILE_TEXT,
        },
    )


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def write(shown: Results, path: Path, images: int = 3) -> Path:
    scores = shown.scores
    maps = {method: noise(images, 24, 24) for method in scores.ranking()}
    masks = noise(images, 24, 24) > 0.5
    rows = gallery_rows(noise(images, 3, 24, 24), maps, masks, roles=scores.roles)
    charts = save_figures(figures(shown), path.with_suffix(""))
    write_report(shown, charts, rows if images else [], path)
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
    assert page.locator(".verdicts li").nth(2).inner_text().endswith(HOSTILE_TEXT)
    assert page.locator("h1 img, #ranking img, dd b").count() == 0


def test_verdicts_come_first_with_their_judgements(opened: Visit) -> None:
    page = opened.page
    assert page.locator(".verdicts").first.locator(".tag").all_inner_texts() == [
        "better",
        "level",
        "worse",
    ]
    top = page.locator(".verdicts").first.bounding_box()
    table = page.locator("#ranking").bounding_box()
    assert top is not None
    assert table is not None
    assert top["y"] < table["y"]
    colours = {
        page.locator(f".tag.{judgement}").first.evaluate("tag => getComputedStyle(tag).color")
        for judgement in ("better", "level", "worse")
    }
    assert len(colours) == 3


def test_configuration_is_named(opened: Visit) -> None:
    header = opened.page.inner_text("header")
    assert "Configuration of this explainer: small: UNet(channels=[4, 8])" in header


def test_ranking_is_by_insertion_with_intervals_and_best_marked(opened: Visit) -> None:
    page = opened.page
    assert column(page, 0) == ["oracle", EXPLAINER, "RISE", "Grad-CAM", HOSTILE, "random"]
    assert column(page, 1) == [".950", ".800", ".700", ".600", ".330", ".200"]
    interval = page.locator("#ranking tr.explainer small").first.inner_text()
    assert re.fullmatch(r"\[\.7\d\d, \.8\d\d\]", interval)
    best = page.locator("#ranking td.best").all_inner_texts()
    assert [text.splitlines()[0] for text in best] == [".800", ".200", ".800"]
    for role, name in (("control", "random"), ("oracle", "oracle")):
        (cell,) = page.locator(f"#ranking tr.{role} td:first-child").all()
        assert cell.inner_text() == name
        assert cell.evaluate("cell => getComputedStyle(cell).fontStyle") == "italic"


def test_a_click_sorts_the_best_first_and_another_the_worst(fresh: Page) -> None:
    page = fresh
    by_merit = ["oracle", EXPLAINER, "RISE", "Grad-CAM", HOSTILE, "random"]
    assert click(page, "Insertion AUC") == by_merit
    heading = page.locator("#ranking th", has_text="Insertion AUC")
    assert heading.get_attribute("aria-sort") == "descending"
    assert click(page, "Insertion AUC") == by_merit[::-1]
    assert heading.get_attribute("aria-sort") == "ascending"
    assert click(page, "ms") == ["random", "Grad-CAM", EXPLAINER, "oracle", "RISE", HOSTILE]
    assert heading.get_attribute("aria-sort") is None
    deletion = click(page, "Deletion AUC")
    assert deletion[:2] == ["oracle", EXPLAINER]  # the lowest first
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
    methods = dict.fromkeys(["explainer", "per_image", "integrated_gradients", "rise"], 0.5)
    metrics = (
        "insertion deletion agreement_5 agreement_10 agreement_20 pointing_game iou "
        "relevance_mass relevance_rank sparsity own_mask insertion_mean deletion_mean "
        "insertion_zero deletion_zero"
    )
    scores = constructed(dict.fromkeys(metrics.split(), methods), seconds={"rise": 1.2})
    with visit(browser, write(results(scores), tmp_path / "report.html"), width=1280) as found:
        shown, whole = found.page.locator(".scroll").first.evaluate(
            "box => [box.clientWidth, box.scrollWidth]"
        )
        assert whole <= shown
        assert found.page.locator("#ranking th", has_text="Insertion AUC").count() == 1


def test_further_baseline_images_have_a_table_of_their_own(
    browser: Browser, tmp_path: Path
) -> None:
    means = {"explainer": 0.5, "rise": 0.6, "random": 0.1}
    scores = constructed({"insertion": means, "insertion_zero": means, "deletion_zero": means})
    with visit(browser, write(results(scores), tmp_path / "report.html"), width=1280) as found:
        table = found.page.locator("#further-baseline-images")
        assert table.locator("th").all_inner_texts() == [
            "Method",
            "Insertion AUC over zero\u00a0↑",
            "Deletion AUC over zero\u00a0↓",
        ]
        rows = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
        assert [(name, insertion.split()[0]) for name, insertion, _ in rows] == [
            ("RISE", ".600"),
            (EXPLAINER, ".500"),
            ("random", ".100"),
        ]
        best = table.locator("td.best").all_inner_texts()
        assert [text.splitlines()[0] for text in best] == [".600", ".100"]
        assert found.page.locator("#ranking tbody tr").first.locator("td").count() == 1 + 1 + 2


def test_a_report_without_gallery_uncertainty_or_explainer(
    browser: Browser, tmp_path: Path
) -> None:
    scores = constructed({"insertion": {"rise": 0.5, "gradient": 0.4}})
    with visit(browser, write(results(scores), tmp_path / "report.html", images=0)) as found:
        assert found.complaints == []
        headings = found.page.locator("h2").all_inner_texts()
        assert headings == [
            "Ranking",
            "Insertion and deletion",
            "Speed and quality",
            "How this was measured",
        ]
        assert found.page.locator(".verdicts").count() == 0
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
    values = torch.linspace(-3, 5, 24 * 24).view(1, 24, 24)
    images, masks = noise(1, 3, 24, 24), noise(1, 24, 24) > 0.5
    maps = {"explainer": values, "random": 0 * values}
    rows = gallery_rows(images, maps, masks, roles=several().roles)
    assert [(row["name"], row["role"]) for row in rows] == [
        ("image", "given"),
        ("true mask", "given"),
        (EXPLAINER, Role.EXPLAINER),
        ("random", Role.CONTROL),
    ]
    photo, mask, scaled, flat = (np.asarray(picture(r["pictures"][0]).convert("RGB")) for r in rows)
    np.testing.assert_allclose(
        photo / 255, images[0].permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6
    )
    assert np.array_equal(mask[..., 0] > 127, masks[0].numpy())
    viridis = colormaps["viridis"]
    assert scaled[0, 0].tolist() == list(viridis(0, bytes=True)[:3])
    assert scaled[-1, -1].tolist() == list(viridis(255, bytes=True)[:3])
    assert len(np.unique(flat.reshape(-1, 3), axis=0)) == 1


def test_large_maps_are_shrunk() -> None:
    maps = {"explainer": noise(1, 320, 480)}
    rows = gallery_rows(noise(1, 3, 320, 480), maps, None, roles={"explainer": Role.EXPLAINER})
    assert [picture(row["pictures"][0]).size for row in rows] == [(160, 107), (160, 107)]


def test_ties_are_all_marked() -> None:
    scores = constructed({"insertion": {"explainer": 0.5, "rise": 0.5, "random": 0.1}})
    marked = {row["name"]: row["cells"]["insertion"]["best"] for row in ranking_rows(scores)}
    assert marked == {EXPLAINER: True, "RISE": True, "random": False}
