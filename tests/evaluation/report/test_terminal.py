"""What the terminal shows of an evaluation."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from saliency_vae.evaluation.report.terminal import print_results, ranking_table, result_lines
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.verdicts import Comparison, Verdict
from tests.helpers.constructed_results import constructed, results, several


def printed(scores: Scores, width: int = 100) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(ranking_table(scores))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue().splitlines()


def test_ranking_reads_at_100_columns() -> None:
    metrics = (
        "insertion deletion agreement_5 agreement_10 agreement_20 pointing_game iou "
        "relevance_mass relevance_rank sparsity own_mask infidelity sensitivity"
    )
    methods = dict.fromkeys(["explainer", "integrated_gradients", "random"], -0.123)
    scores = constructed(dict.fromkeys(metrics.split(), methods), seconds={"random": 1.2899})
    lines = printed(scores)
    assert all(len(line) <= 100 for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    assert "integrated_gradients" in text
    row = next(line for line in lines if "random" in line)
    assert row.split() == ["random", *["-.123"] * 10, "1290"]


def test_terminal_ranks_by_insertion() -> None:
    order = [line.split()[0] for line in printed(several()) if "." in line]
    assert order == ["oracle", "explainer", "rise", "grad_cam", "random"]


def judged() -> Results:
    return results(
        several().extended(left_out=["RISE: no time."]),
        comparison=Comparison((Verdict("better", "It wins."),)),
        uncertainty=UncertaintyReport((Verdict("worse", "It is beaten."),)),
    )


def test_verdicts_in_lines() -> None:
    assert result_lines(judged()) == ["It wins.", "It is beaten.", "Left out: RISE: no time."]


def test_the_report_is_named_last(capsys: pytest.CaptureFixture[str]) -> None:
    print_results(judged(), Path("run/report.html"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-4:] == [*result_lines(judged()), "run/report.html"]
    assert any("grad_cam" in line for line in lines)


def test_best_is_green_and_explainers_are_bold() -> None:
    console = Console(file=StringIO(), width=100, force_terminal=True, color_system="standard")
    scores = several()
    roles = {**scores.roles, "rise": Role.EXPLAINER}
    console.print(ranking_table(replace(scores, roles=roles)))
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    (explainer,) = (line for line in lines if "explainer" in line)
    assert "\x1b[1;32m.800" in explainer
    bold = [line for line in lines if "\x1b[1m" in line and "\x1b[1mmethod" not in line]
    assert [name in line for name, line in zip(("explainer", "rise"), bold, strict=True)] == [
        True,
        True,
    ]
