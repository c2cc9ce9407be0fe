"""Tables for a paper: what they hold, and that names are text in them."""

import re
from dataclasses import replace

import pytest
import torch

from saliency_vae.evaluation.report.paper_tables import (
    latex_table,
    markdown_table,
    paper_metrics,
    paper_note,
)
from saliency_vae.evaluation.report.rows import ranking_rows
from saliency_vae.evaluation.scores import Scores
from tests.helpers.constructed_results import constructed

HOSTILE = r"a_b|c*<i>&50%$x$\input{y}#~^"


def scored() -> Scores:
    methods = {"explainer": 0.5, HOSTILE: 0.4, "random": 0.1, "oracle": 0.9}
    scores = constructed(
        {
            "insertion": methods,
            "agreement_40": methods,
            "sparsity": methods,
            "insertion_road": {"explainer": 0.3, HOSTILE: 0.4, "random": 0.1},
            "deletion_road": methods,
        }
    )
    values = {**scores.values["insertion"], HOSTILE: torch.full((12,), 0.75)}
    return replace(
        scores,
        values={**scores.values, "insertion": values},
        passes={"explainer": 2.0, HOSTILE: 4000.0},
    )


def test_metrics_are_those_of_the_ranking_and_one_for_each_baseline_image() -> None:
    assert list(paper_metrics(scored())) == ["insertion", "agreement_40", "insertion_road"]
    means = {"explainer": 0.5}
    with_srg = constructed(dict.fromkeys(("insertion", "srg", "insertion_zero", "srg_zero"), means))
    assert list(paper_metrics(with_srg)) == ["insertion", "srg", "srg_zero"]


def test_markdown() -> None:
    scores = scored()
    head, rule, *body, empty, note = markdown_table(
        ranking_rows(scores), paper_metrics(scores), "What they are."
    ).splitlines()
    assert head == (
        "| Method | Insertion AUC\u00a0↑ | Agreement 40\u00a0%\u00a0↑ | "
        "Insertion AUC over noisy linear imputation\u00a0↑ | passes | ms |"
    )
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert [line.split(" | ")[0] for line in body] == [
        "| *oracle*",
        r"| a b\|c\*\<i\>\&50%$x$\\input\{y\}#\~^ (12 images)",
        "| this explainer",
        "| *random*",
    ]
    assert re.fullmatch(
        r"\| this explainer (\| \*\*\.500\*\* \[\.\d+, \.\d+\] ){2}"
        r"\| \.300 \[\.\d+, \.\d+\] \| 2 \| 1 \|",
        body[2],
    )
    assert body[1].split(" | ")[1] == ".750 [.750, .750]"  # on fewer images, so not the best
    assert body[0].split(" | ")[3:] == ["", "", "1 |"]  # not measured, not counted
    assert (empty, note) == ("", "What they are.")


def test_the_interval_stands_beside_the_mean() -> None:
    scores = scored()
    interval = scores.intervals["agreement_40"]["explainer"]
    text = markdown_table(ranking_rows(scores), paper_metrics(scores), "")
    (row,) = (line for line in text.splitlines() if "this explainer" in line)
    low, high = re.findall(r"\[(\.\d+), (\.\d+)\]", row)[1]
    assert float(low) == pytest.approx(float(interval.low), abs=1e-3)
    assert float(high) == pytest.approx(float(interval.high), abs=1e-3)


def test_the_note_names_images_classifier_and_baseline_image() -> None:
    scores = replace(scored(), baseline="inpaint", seen=frozenset({"blur"}))
    note = paper_note(scores, {"data": "test images of digits", "classifier": "vgg16"})
    assert f"{scores.images} test images of digits, explained for vgg16" in note
    assert "by in-painting, unseen in training, unless" in note
    assert "SRG" not in note
    assert paper_note(scored(), {}).startswith(f"Means over {scores.images} images, with")


def test_latex() -> None:
    scores = scored()
    lines = latex_table(ranking_rows(scores), paper_metrics(scores), "Means ± 5 %").splitlines()
    assert lines[0] == r"% Needs \usepackage{booktabs}."
    assert r"\begin{tabular}{lrrrrr}" in lines
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == 4
    assert all(line.count(" & ") == 5 and line.endswith(r" \\") for line in body)
    assert body[0].startswith(r"\emph{oracle} & $.900_{[")
    assert body[1].startswith(
        r"a b\textbar{}c*\textless{}i\textgreater{}\&50\%\$x\$\textbackslash{}input\{y\}\#"
        r"\textasciitilde{}\textasciicircum{} (12 images) & $.750_{[.750, .750]}$ & "
    )
    assert body[2].startswith(r"this explainer & $\mathbf{.500}_{[")
    (head,) = (line for line in lines if line.startswith("Method"))
    assert head == (
        r"Method & \shortstack{Insertion\\AUC~$\uparrow$} & "
        r"\shortstack{Agreement\\40~\%~$\uparrow$} & "
        r"\shortstack{Insertion\\AUC over\\noisy linear\\imputation~$\uparrow$} & passes & ms \\"
    )


def test_latex_braces_and_environments_are_balanced() -> None:
    scores = scored()
    text = latex_table(ranking_rows(scores), paper_metrics(scores), "Means ± 5 %")
    bare = re.sub(r"\\[{}%&$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
