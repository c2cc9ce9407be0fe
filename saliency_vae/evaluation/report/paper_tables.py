"""The ranking as tables to paste into a paper: Markdown, and LaTeX with booktabs."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import wrap

from saliency_vae.evaluation.main_metrics import main_metrics
from saliency_vae.evaluation.measured_baselines import (
    baseline_name,
    faithfulness,
    further_baselines,
    seen_note,
)
from saliency_vae.evaluation.metric_info import MetricInfo, over
from saliency_vae.evaluation.report.rows import Cell, Row, described, ranking_rows
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.wording import three_digits

_NOTE = (
    "with 95 % intervals; passes of the classifier and milliseconds are those of one image, the "
    "latter of the fastest batch. The best of each column is bold; oracles, and methods that were "
    "scored on fewer images, do not compete. Controls and oracles are in italics."
)
_LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\u00a0": "~",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}
_COSTS = ("passes", "ms")
_HEADING_WIDTH = 12  # characters of a line of a LaTeX heading


def paper_tables(results: Results) -> dict[str, str]:
    """Write the ranking, by the name of the language: ``Markdown`` and ``LaTeX``."""
    scores = results.scores
    rows, metrics = ranking_rows(scores), paper_metrics(scores)
    note = paper_note(scores, results.run_metadata)
    return {
        "Markdown": markdown_table(rows, metrics, note),
        "LaTeX": latex_table(rows, metrics, note),
    }


def paper_metrics(scores: Scores) -> dict[str, MetricInfo]:
    """Metrics of the tables: those of the ranking, then one for each further baseline image."""
    further = [over(faithfulness(scores), baseline) for baseline in further_baselines(scores)]
    return described([*main_metrics(scores), *(m for m in further if m in scores.values)])


def paper_note(scores: Scores, metadata: Mapping[str, object]) -> str:
    """Note below a table that names its images, classifier and baseline image.

    Args:
        scores: Scores of the table.
        metadata: Metadata of the run, of which ``classifier`` and ``data`` are used.

    Example:
        >>> paper_note(Scores(baseline="blur"), {"data": "images", "classifier": "vgg16"})[:52]
        'Means over 0 images, explained for vgg16, with 95 % '
    """
    data, classifier = metadata.get("data", "images"), metadata.get("classifier")
    explained = f", explained for {classifier}" if classifier else ""
    removed = f"Removed pixels are replaced by {baseline_name(scores, '')}{seen_note(scores, '')}"
    srg = " SRG is the symmetric relevance gain, the AUC of insertion minus that of deletion."
    return (
        f"Means over {scores.images} {data}{explained}, {_NOTE} {removed}, unless a heading names "
        f"something else.{srg if 'srg' in scores.values else ''}"
    )


def markdown_table(rows: Sequence[Row], metrics: Mapping[str, MetricInfo], note: str) -> str:
    """Write rows as a Markdown table with a note below it.

    Args:
        rows: Rows from :func:`saliency_vae.evaluation.report.rows.ranking_rows`.
        metrics: Metrics of the columns.
        note: Note below the table, see :func:`paper_note`.
    """
    costs = _costs(rows)
    head = [*(_markdown(_heading(info)) for info in metrics.values()), *costs]
    lines = [
        ["Method", *head],
        ["---", *("---:" for _ in head)],
        *_lines(rows, metrics, costs, _markdown_name, _markdown_cell),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{note}\n"


def latex_table(rows: Sequence[Row], metrics: Mapping[str, MetricInfo], note: str) -> str:
    """Write rows as a LaTeX table that needs the package booktabs.

    Args:
        rows: Rows from :func:`saliency_vae.evaluation.report.rows.ranking_rows`.
        metrics: Metrics of the columns.
        note: Caption, see :func:`paper_note`.
    """
    costs = _costs(rows)
    head = [*(_latex_heading(_heading(info)) for info in metrics.values()), *costs]
    body = _lines(rows, metrics, costs, _latex_name, _latex_cell)
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}.",
            r"\begin{table}",
            r"\centering",
            r"\footnotesize",
            rf"\caption{{{_latex(note)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(head)}}}",
            r"\toprule",
            rf"{' & '.join(['Method', *head])} \\",
            r"\midrule",
            *(rf"{' & '.join(line)} \\" for line in body),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _lines(
    rows: Sequence[Row],
    metrics: Mapping[str, MetricInfo],
    costs: Sequence[str],
    name: Callable[[Row, str], str],
    cell: Callable[[Cell], str],
) -> list[list[str]]:
    """Texts of all cells; empty where a method has no score."""
    return [
        [
            name(row, _name(row, metrics)),
            *(cell(row.cells[metric]) if metric in row.cells else "" for metric in metrics),
            *(three_digits(row.costs[cost]) if cost in row.costs else "" for cost in costs),
        ]
        for row in rows
    ]


def _costs(rows: Sequence[Row]) -> list[str]:
    return [cost for cost in _COSTS if any(cost in row.costs for row in rows)]


def _heading(info: MetricInfo) -> str:
    """Write title and arrow; non-breaking spaces keep them, and per cents, on one line."""
    return f"{info.title}\u00a0{info.arrow}".strip().replace(" %", "\u00a0%")


def _is_aside(row: Row) -> bool:
    return row.role in (Role.CONTROL, Role.ORACLE)


def _name(row: Row, metrics: Iterable[str]) -> str:
    """Name of a method, with its number of images if others were scored on more."""
    shown = (row.cells[metric].fewer for metric in metrics if metric in row.cells)
    fewer = list(filter(None, dict.fromkeys(shown)))
    return f"{row.name} ({' or '.join(fewer)})" if fewer else row.name


def _markdown_name(row: Row, name: str) -> str:
    return f"*{_markdown(name)}*" if _is_aside(row) else _markdown(name)


def _markdown_cell(cell: Cell) -> str:
    return f"{f'**{cell.mean}**' if cell.best else cell.mean} {cell.interval}"


def _markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>|~&])", r"\\\1", " ".join(text.splitlines()))


def _latex_name(row: Row, name: str) -> str:
    return rf"\emph{{{_latex(name)}}}" if _is_aside(row) else _latex(name)


def _latex_cell(cell: Cell) -> str:
    mean = rf"\mathbf{{{cell.mean}}}" if cell.best else cell.mean
    return f"${mean}_{{{cell.interval}}}$"


def _latex_heading(text: str) -> str:
    """Break a heading into short lines."""
    lines = wrap(text, _HEADING_WIDTH, break_long_words=False, break_on_hyphens=False)
    stacked = r"\\".join(map(_latex, lines))
    return rf"\shortstack{{{stacked}}}"


def _latex(text: str) -> str:
    """Escape a text so that LaTeX shows it as it is, in one line."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.splitlines()))
