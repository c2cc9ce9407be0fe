"""Repeat the tables of results_digits.md and uncertainty.md: make results [ROWS="digits"].

python docs/make_results.py [--list] [--output DIR] [ROW ...]

Each row is a training or an evaluation, with the command that the pages show. What is finished is
not done again, and a training that was interrupted is resumed. Delete the output directory to start
anew.
"""

import argparse
import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

OUTPUT = Path("outputs/results")
# Names in capitals are the directories of rows' explainers, as in the pages.
_REFERENCE = re.compile(r"\b[A-Z]+(?:-[A-Z0-9]+)*\b")

DIGITS = "experiment=cluttered_digits"
IMAGE = "experiment=cluttered_digits_image"
PAPER = "experiment=cluttered_digits_paper"
FIFTEEN_BLOCKS = "encoder.hidden_channels=[16,16,16,16,8,8,8,8,8,4,4,4,4,4,4]"
ZERO_PRIOR_MEAN = "encoder.prior_mean_scale=0 mean_penalty=0 topk.fraction=[0.03,0.9]"
COMPARISON = "data=cluttered_digits limit=300 baseline_images=[blur,mean,zero]"
ALONE = (
    "data=cluttered_digits methods=[explainer,random] baseline_images=[blur] own_mask_images=0 "
    "reference_images=0 corruption_images=0"
)


@dataclass(frozen=True)
class Trained:
    """A row of the tables of explainers.

    Attributes:
        settings: settings of the training.
        threads: number of threads of the training, which the last digits depend on.
    """

    settings: str
    threads: int = 2

    @property
    def command(self) -> str:
        """Command line as the pages show it."""
        threads = "OMP_NUM_THREADS=1 " if self.threads == 1 else ""
        return f"{threads}python -m saliency_vae.train {self.settings}"


@dataclass(frozen=True)
class Evaluated:
    """A row that is one evaluation, of several methods or of uncertainties.

    Attributes:
        settings: settings of the evaluation.
    """

    settings: str

    @property
    def command(self) -> str:
        """Command line as the pages show it."""
        return f"python -m saliency_vae.evaluate {self.settings}"


ROWS: dict[str, Trained | Evaluated] = {
    "digits": Trained(DIGITS),
    "digits-4-epochs": Trained(f"{DIGITS} trainer.max_epochs=4"),
    "digits-no-penalty": Trained(f"{DIGITS} encoder.prior_mean_scale=0.3 mean_penalty=0"),
    "digits-zero-prior-mean": Trained(f"{DIGITS} {ZERO_PRIOR_MEAN}"),
    "digits-four-levels": Trained(f"{DIGITS} {ZERO_PRIOR_MEAN} encoder.levels=[0.25,0.5,0.75,1.0]"),
    "digits-confidence": Trained(f"{DIGITS} confidence_width=16"),
    "image": Trained(IMAGE),
    **{f"digits-seed-{n}": Trained(f"{DIGITS} seed={n}", threads=1) for n in range(1, 6)},
    "image-one-thread": Trained(IMAGE, threads=1),
    **{f"image-seed-{n}": Trained(f"{IMAGE} seed={n}", threads=1) for n in range(1, 5)},
    "image-correlated": Trained(f"{IMAGE} posterior=correlated", threads=1),
    "image-more-complement": Trained(f"{IMAGE} complement=0.5 topk.fraction=[0.05,0.3]", threads=1),
    "image-no-complement": Trained(f"{IMAGE} complement=0 topk.fraction=[0.05,0.3]", threads=1),
    "image-learned-correlation": Trained(f"{IMAGE} prior.learn_correlation=true"),
    "paper": Trained(PAPER),
    "paper-cooler": Trained(f"{PAPER} topk.initial_temperature=0.1 optimizer.lr=4e-3"),
    "paper-cooler-15-blocks": Trained(
        f"{PAPER} topk.initial_temperature=0.1 optimizer.lr=4e-3 {FIFTEEN_BLOCKS}"
    ),
    "paper-constant-15-blocks": Trained(f"{PAPER} topk.initial_temperature=null {FIFTEEN_BLOCKS}"),
    "comparison": Evaluated(f"explainer=DIGITS {COMPARISON}"),
    "comparison-image": Evaluated(f"explainer=IMAGE {COMPARISON}"),
    "uncertainty": Evaluated(
        "explainer=DIGITS data=cluttered_digits methods=[explainer,random] limit=1000 "
        "reference_images=1000 reference_runs=0 "
        f"ensemble=[{','.join(f'DIGITS-SEED-{n}' for n in range(1, 6))}] corruption_images=1000"
    ),
    "uncertainty-confidence": Evaluated(
        "explainer=DIGITS-CONFIDENCE data=cluttered_digits methods=[explainer,random] limit=1000 "
        "reference_images=0 corruption_images=1000"
    ),
    "uncertainty-image": Evaluated(
        "explainer=IMAGE-ONE-THREAD data=cluttered_digits methods=[explainer,random] limit=1000 "
        "reference_images=1000 reference_runs=0 "
        f"ensemble=[{','.join(f'IMAGE-SEED-{n}' for n in range(1, 5))}] corruption_images=1000"
    ),
}
# Metrics of an explainer's row, by the number of test images that they are the mean of.
SCORES = {
    1000: ("pointing_game", "iou", "agreement_5", "agreement_10", "agreement_20"),
    300: ("insertion", "deletion"),
}
COMPARED = (
    *("insertion", "deletion", "insertion_mean", "deletion_mean", "insertion_zero"),
    *("deletion_zero", "agreement_5", "agreement_10", "agreement_20", "pointing_game", "iou"),
)

Run = Callable[[str, list[str], int], None]


def run_command(module: str, settings: list[str], threads: int) -> None:
    """Run a command of the package in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", f"saliency_vae.{module}", *settings]
    print(f"\n$ {shlex.join(command)}", flush=True)
    subprocess.run(command, check=True, env=environment)


def references(settings: str) -> list[str]:
    """Rows whose explainers an evaluation uses."""
    return [name.lower() for name in _REFERENCE.findall(settings)]


def train(name: str, output: Path, run: Run) -> None:
    """Train the explainer of a row, unless that is done."""
    directory, row = output / name, ROWS[name]
    assert isinstance(row, Trained)
    if not (directory / "explainer/config.json").is_file():
        begun = (directory / "checkpoints/last.ckpt").is_file()
        settings = "ckpt_path=last" if begun else row.settings  # resumed with its own settings
        run("train", [*settings.split(), f"hydra.run.dir={directory}"], row.threads)


def evaluate(name: str, settings: str, output: Path, run: Run) -> Path:
    """Evaluate, unless that is done; returns the directory of the evaluation."""
    directory = output / name
    for reference in references(settings):
        train(reference, output, run)
    known = _REFERENCE.sub(lambda found: str(output / found[0].lower() / "explainer"), settings)
    if not (directory / "report.html").is_file():  # written last
        run("evaluate", [*known.split(), f"hydra.run.dir={directory}"], 2)
    return directory


def make(name: str, output: Path, run: Run) -> str:
    """Do what a row needs, and lay out what was found as Markdown."""
    row = ROWS[name]
    if isinstance(row, Evaluated):
        return compared(evaluate(name, row.settings, output, run))
    found: dict[str, float] = {}
    for limit, metrics in SCORES.items():
        settings = f"explainer={name.upper()} {ALONE} limit={limit}"
        means = read_means(evaluate(f"{name}/evaluation_{limit}", settings, output, run))
        found |= {metric: means["explainer"][metric] for metric in metrics}
    return table([[*found], [*map(decimals, found.values())]])


def compared(evaluation: Path) -> str:
    """Lay out the methods, the uncertainties and the verdicts of an evaluation."""
    means = read_means(evaluation)
    metrics = [metric for metric in COMPARED if metric in means["explainer"]]
    methods = [
        [
            method,
            *(decimals(values.get(metric)) for metric in metrics),
            f"{1000 * values['seconds']:.3g}",
        ]
        for method, values in means.items()
    ]
    found = json.loads((evaluation / "metrics.json").read_text())
    uncertainties = [
        [
            row["uncertainty"],
            row["role"],
            row["metric"],
            *(decimals(row[key]) for key in ("mean", "low", "high")),
        ]
        for row in found["uncertainty"]["metrics"]
    ]
    verdicts = [*found["verdicts"], *found["uncertainty"]["verdicts"]]
    lines = "\n".join(f"- {verdict['judgement']}: {verdict['text']}" for verdict in verdicts)
    heading = ["uncertainty", "role", "metric", "mean", "low", "high"]
    return "\n\n".join(
        (table([["", *metrics, "ms an image"], *methods]), table([heading, *uncertainties]), lines)
    )


def read_means(evaluation: Path) -> dict[str, dict[str, float]]:
    """Means over the images: method, then metric."""
    means: dict[str, dict[str, float]] = {}
    with (evaluation / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            means.setdefault(row["method"], {})[row["metric"]] = float(row["mean"])
    return means


def decimals(value: float | None) -> str:
    """Write a figure as the pages do: .987."""
    return "" if value is None else re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}")


def table(rows: list[list[str]]) -> str:
    """Lay out rows as a table of Markdown; the first is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def main(arguments: Iterable[str] | None = None, run: Run = run_command) -> None:
    """Make the rows that are asked for, and write their tables after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows; all by default")
    parser.add_argument("--list", action="store_true", help="print the rows and their commands")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: outputs/results")
    options = parser.parse_args(None if arguments is None else list(arguments))
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"Expected rows among {', '.join(ROWS)}. Found {', '.join(unknown)}.")
    names = options.rows or list(ROWS)
    if options.list:
        print("\n".join(f"{name}: {ROWS[name].command}" for name in names))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    sections = ["# Results of make results, to be compared with docs/results_digits.md"]
    for number, name in enumerate(names, 1):
        print(f"\nRow {number} of {len(names)}: {name}", flush=True)
        made = make(name, options.output, run)
        sections.append(f"## {name}\n\n`{ROWS[name].command}`\n\n{made}")
        page = options.output / "results.md"
        page.write_text("\n\n".join(sections) + "\n")
    print(f"\n{page}")


if __name__ == "__main__":
    main()
