"""The report in a real browser, and the ranking on a terminal."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import Tensor

from saliency_vae.evaluation.report.charts import figures
from saliency_vae.evaluation.report.gallery import Caption, gallery_rows
from saliency_vae.evaluation.report.page import save_figures, write_report
from saliency_vae.evaluation.report.paper_tables import paper_tables
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores, Values
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


CAPTIONS = (Caption("a.jpg", HOSTILE, 0.5), Caption("b.jpg", HOSTILE_TEXT, 1))


def write(
    shown: Results, path: Path, images: int = 3, captions: Sequence[Caption] = CAPTIONS
) -> Path:
    scores = shown.scores
    maps = {method: noise(images, 24, 24) for method in scores.ranking()}
    masks = noise(images, 24, 24) > 0.5
    rows = gallery_rows(noise(images, 3, 24, 24), maps, masks, roles=scores.roles)
    charts = save_figures(figures(shown), path.with_suffix(""))
    write_report(
        shown, charts, rows if images else [], paper_tables(shown), path, captions=captions
    )
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
    return [text.partition("\n")[0] for text in cells]


def click(page: Page, heading: str) -> list[str]:
    """Sort by a heading; the methods from top to bottom."""
    page.locator("#ranking").get_by_role("button", name=heading).click()
    return column(page, 0)


def test_page_is_quiet_and_loads_nothing(opened: Visit) -> None:
    assert opened.complaints == []
    assert opened.page.evaluate("performance.getEntriesByType('resource').length") == 0
    sources = opened.page.evaluate("[...document.images].map((image) => image.src)")
    assert all(source.startswith("data:") for source in sources)


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
        "relevance_mass relevance_rank sparsity own_mask srg two_objects_point two_objects_iou "
        "two_objects_share grid_share grid_top grid_cell eval_x infidelity sensitivity "
        "insertion_mean deletion_mean insertion_zero deletion_zero"
    )
    scores = constructed(dict.fromkeys(metrics.split(), methods), seconds={"rise": 1.2})
    scores = replace(scores, passes={"rise": 4000.0})
    with visit(browser, write(results(scores), tmp_path / "report.html"), width=1280) as found:
        boxes = found.page.locator(".scroll").evaluate_all(
            "boxes => boxes.map((box) => [box.clientWidth, box.scrollWidth])"
        )
        assert len(boxes) == 1 + 2 + 2  # ranking, baseline images, agreements and the rest
        assert all(whole <= shown for shown, whole in boxes)
        assert found.page.locator("#ranking th", has_text="Insertion AUC").count() == 1


def over_baselines() -> Scores:
    means = {"explainer": 0.5, "rise": 0.6, "random": 0.1}
    scores = constructed(
        {
            "insertion": means | {"rise": 0.4},
            "insertion_zero": means,
            "deletion_zero": means,
            "insertion_road": {"explainer": 0.3, "rise": 0.25},
            "deletion_road": {"explainer": 0.3, "rise": 0.25},
        }
    )
    values = {**scores.values["deletion_zero"], "random": torch.zeros(12)}
    return replace(
        scores,
        values={**scores.values, "deletion_zero": values},
        baseline="blur",
        seen=frozenset({"blur", "zero"}),
        classifier_seen={"explainer": True, "rise": False},
        passes={"explainer": 2.0, "rise": 300.0},
    )


@pytest.fixture(scope="module")
def baselines(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("baselines") / "report.html"
    with visit(browser, write(results(over_baselines()), path), width=1280) as found:
        yield found.page


def test_further_baselines_have_tables_of_their_own(baselines: Page) -> None:
    assert baselines.locator("h2").first.inner_text() == "Ranking over blur, seen in training"
    assert baselines.locator(".tables h3").all_inner_texts() == [
        "Over zero, seen in training",
        "Over noisy linear imputation, unseen in training",
    ]
    table = baselines.locator("#over-zero")
    assert table.locator("th").all_inner_texts() == [
        "Method",
        "Insertion AUC\u00a0↑",
        "Deletion AUC\u00a0↓",
    ]
    rows = [row.split("\t") for row in table.locator("tbody tr").all_inner_texts()]
    assert [(name, insertion.split()[0]) for name, insertion, _ in rows] == [
        ("RISE", ".600"),
        (EXPLAINER, ".500"),
        ("random", ".100"),
    ]
    best = table.locator("td.best").all_inner_texts()
    assert [text.splitlines()[0] for text in best] == [".600", ".500"]
    assert rows[2][2].splitlines() == [".000", "[.000, .000]", "12 images"]
    assert baselines.locator("#ranking tbody tr").first.locator("td").count() == 1 + 1 + 3


def test_the_classifier_is_said_to_be_seen_or_not(baselines: Page) -> None:
    said = "This explainer was trained with this classifier; RISE was not trained with"
    assert said in baselines.inner_text("header")


def test_passes_are_a_cost_and_what_was_not_counted_is_last(baselines: Page) -> None:
    assert column(baselines, 2) == ["2", "300", ""]
    for _ in range(2):
        baselines.locator("#ranking").get_by_role("button", name="passes").click()
        assert column(baselines, 0)[-1] == "random"
    assert column(baselines, 0)[0] == "RISE"


def test_reversals_and_correlations_of_the_orders_are_said(baselines: Page) -> None:
    text = baselines.inner_text("body")
    assert "1 of 1 pairs of methods have one order by Insertion AUC over one baseline image" in text
    (line,) = baselines.locator(".reversals li").all_inner_texts()
    assert line.startswith("this explainer and RISE: over blur, this explainer is better by .100")
    rows = [row.split("\t") for row in baselines.locator("#tau tbody tr").all_inner_texts()]
    assert rows == [
        ["blur", "", "-1.00", "1.00"],
        ["zero", "-1.00", "", "-1.00"],
        ["noisy linear imputation", "1.00", "-1.00", ""],
    ]


def test_tables_for_a_paper_can_be_selected_with_a_click(baselines: Page) -> None:
    baselines.locator(".paper summary", has_text="LaTeX").click()
    baselines.locator(".paper pre").nth(1).click()
    selected = baselines.evaluate("getSelection().toString()")
    assert selected.strip() == paper_tables(results(over_baselines()))["LaTeX"].strip()


def test_captions_stand_above_their_images(opened: Visit) -> None:
    cells = opened.page.locator("#gallery td.caption")
    assert cells.nth(0).locator("span").all_inner_texts() == ["a.jpg", f"50\u00a0% {HOSTILE}"]
    assert cells.nth(1).locator("span").all_inner_texts()[1] == f"100\u00a0% {HOSTILE_TEXT}"
    caption, photo = (
        opened.page.locator(f"#gallery {part}").nth(1).bounding_box()
        for part in ("td.caption", "thead img")
    )
    assert caption is not None
    assert photo is not None
    assert caption["x"] == pytest.approx(photo["x"], abs=4)
    assert caption["y"] + caption["height"] <= photo["y"] + 1


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
            "Cost and quality",
            "Table for a paper",
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
