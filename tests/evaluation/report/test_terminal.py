"""What the terminal shows of an evaluation."""

from io import StringIO

from rich.console import Console

from saliency_vae.evaluation.report.terminal import in_lines, ranking_table
from saliency_vae.evaluation.results import Finding, Results
from tests.helpers.constructed_results import constructed, several


def printed(results: Results, width: int = 100) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(ranking_table(results))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue().splitlines()


def test_ranking_reads_at_100_columns() -> None:
    metrics = (
        "insertion deletion agreement_5 agreement_10 agreement_20 pointing_game iou "
        "relevance_mass relevance_rank sparsity own_mask infidelity sensitivity"
    )
    methods = dict.fromkeys(["ours", "integrated_gradients", "random"], -0.123)
    results = constructed(dict.fromkeys(metrics.split(), methods), seconds={"random": 1.2899})
    lines = printed(results)
    assert all(len(line) <= 100 for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    assert "integrated_gradients" in text
    row = next(line for line in lines if "random" in line)
    assert row.split() == ["random", *["-.123"] * 10, "1290"]


def test_terminal_ranks_by_insertion() -> None:
    order = [line.split()[0] for line in printed(several()) if "." in line]
    assert order == ["oracle", "ours", "rise", "grad_cam", "random"]


def test_findings_in_lines() -> None:
    results = several()
    results.findings = [Finding("better", "Ours wins.")]
    results.uncertainty_findings = [Finding("worse", "It is beaten.")]
    results.left_out = ["RISE: no time."]
    assert in_lines(results) == ["Ours wins.", "It is beaten.", "Left out: RISE: no time."]


def test_best_is_green_and_ours_bold() -> None:
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system="standard")
    console.print(ranking_table(several()))
    assert isinstance(console.file, StringIO)
    (ours,) = (line for line in console.file.getvalue().splitlines() if "ours" in line)
    assert "\x1b[1;32m.800" in ours
