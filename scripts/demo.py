"""Demonstrate the whole method on built-in data (make demo): train, compare, explain, summarise.

python scripts/demo.py

Slow parts are left out: most training steps and, in the comparison, per-image optimisation,
baseline images other than the blur, and most images. The report names what the comparison lacks.
"""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from saliency_vae.data.digit_images import ClutteredDigits

STEPS = 200  # of the training; the experiment has 500
IMAGES = 24  # test digits that are explained in the gallery
COMPARED = (
    *("limit=40", "slow_images=4", "grid_questions=20", "robustness_images=0"),
    *("reference_images=10", "reference_runs=1", "baselines.per_image=null"),
    "baseline_images=[blur]",
)


def run(number: int, title: str, command: str, *settings: str) -> None:
    """Print a heading, then run a command of the package.

    Raises:
        SystemExit: With its exit status, if it failed.
    """
    print(f"\n== {number} of 3: {title}", flush=True)
    ended = subprocess.run(
        [sys.executable, "-m", f"saliency_vae.{command}", *settings], check=False
    )
    if ended.returncode:
        raise SystemExit(ended.returncode)


def write_digits(directory: Path) -> None:
    """Write test digits as files, in directories named by their class."""
    digits = ClutteredDigits("test", IMAGES)
    for index, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        file = directory / str(int(label)) / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)


def main_figures(results: dict[str, Any]) -> str:
    """Compare the explainer with the best other method in one sentence.

    Args:
        results: ``metrics.json`` of an evaluation.
    """
    means: dict[str, dict[str, float]] = {}
    images = {}
    for row in results["metrics"]:
        means.setdefault(row["metric"], {})[row["method"]] = row["mean"]
        if row["metric"] == "insertion":
            images[row["method"]] = row["images"]
    rivals = [
        method
        for method, role in results["roles"].items()
        if role == "rival" and images.get(method) == images["explainer"]
    ]
    best = max(rivals, key=lambda method: means["insertion"][method])
    compared = [
        f"{name} {means[metric]['explainer']:.3f} against {means[metric][best]:.3f}"
        for metric, name in (
            ("insertion", "insertion (higher is better)"),
            ("deletion", "deletion (lower)"),
            ("iou", "IoU with the digit (higher)"),
        )
    ]
    return (
        f"On {images['explainer']} test digits the explainer and the best other method by "
        f"insertion, {best}: {', '.join(compared)}."
    )


def main() -> None:
    """Run all parts in a new directory, and print the main results and their files."""
    directory = Path("outputs/demo") / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    explainer, compared = directory / "explainer", directory / "evaluation"
    run(
        *(1, "train a classifier of digits, once, and an explainer for it", "train"),
        *(
            "experiment=cluttered_digits",
            f"trainer.max_steps={STEPS}",
            f"hydra.run.dir={directory}",
        ),
    )
    run(
        *(2, "compare it with other methods", "evaluate", f"explainer={explainer}"),
        *("data=cluttered_digits", f"hydra.run.dir={compared}", *COMPARED),
    )
    write_digits(directory / "digits")
    run(
        *(3, f"explain {IMAGES} test digits", "explain", f"explainer={explainer}", "samples=3"),
        *(f"images={directory}/digits", f"output_dir={directory}/explanations"),
    )
    print(f"\n{main_figures(json.loads((compared / 'metrics.json').read_text()))}")
    print(f"Report:  {compared / 'report.html'}")
    print(f"Gallery: {directory / 'explanations/index.html'}")


if __name__ == "__main__":
    main()
