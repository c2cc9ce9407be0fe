"""What the terminal shows of an evaluation."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from saliency_vae.evaluation.report.terminal import print_results, ranking_table, result_lines
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.evaluation.verdicts import Comparison, Verdict
from tests.helpers.constructed_results import IMAGES, constructed, results, several, with_values


def printed(scores: Scores, width: int = 100) -> list[str]:
    console = Console(file=StringIO(), width=width, highlight=False)
    console.print(ranking_table(scores))
    file = console.file
    assert isinstance(file, StringIO)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("further", "columns"), [("", 8), ("srg two_objects_share grid_share eval_x", 10)]
)
def test_ranking_reads_at_100_columns(further: str, columns: int) -> None:
    metrics = (
        "insertion deletion agreement_5 agreement_10 agreement_20 pointing_game iou "
        f"relevance_mass relevance_rank sparsity own_mask infidelity sensitivity {further}"
    )
    methods = dict.fromkeys(["explainer", "integrated_gradients_10", "random"], -0.1234)
    scores = constructed(dict.fromkeys(metrics.split(), methods), seconds={"random": 17.2899})
    scores = replace(scores, passes={"random": 4000.0, "explainer": 2.0})
    lines = printed(scores)
    assert all(len(line) <= 100 for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    assert "integrated_gradients_10" in text
    row = next(line for line in lines if "random" in line)
    assert row.split() == ["random", *["-.123"] * columns, "4000", "17300"]
    assert ("grid↑" in text, "rank↑" in text) == (bool(further), not further)


def test_tiny_numbers_need_no_more_room() -> None:
    scores = constructed({"insertion": {"rise": 0.4}, "iou": {"rise": -0.0012}})
    assert "-.001 " in printed(scores)[3]


def test_fewer_images_have_a_star_and_never_win() -> None:
    scores = with_values(several(), "insertion", rise=torch.full((12,), 0.99))
    lines = printed(scores)
    assert lines[3].split()[:2] == ["rise*", ".990"]
    assert lines[-1].strip() == "* scored on fewer images"
    assert "fewer" not in "\n".join(printed(several()))


def test_a_method_without_a_score_has_an_empty_cell() -> None:
    scores = several().extended({"grid_share": {"explainer": torch.ones(IMAGES)}})
    (explainer,) = (line for line in printed(scores) if "explainer" in line)
    (rise,) = (line for line in printed(scores) if "rise" in line)
    assert len(explainer.split()) == len(rise.split()) + 1


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


def test_the_clearest_reversals_are_said_and_how_many_more_there_are() -> None:
    names = [f"method_{index}" for index in range(4)]
    means = {name: 0.1 * index for index, name in enumerate(names)}
    scores = constructed({"insertion": means, "insertion_zero": {n: -m for n, m in means.items()}})
    lines = result_lines(results(scores))
    assert len(lines) == 4
    assert lines[0].startswith("Rank reversal, method 0 and method 3: over zero, method 0 is bett")
    assert lines[3] == "Rank reversals: 3 more pairs of methods, see the report."


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
