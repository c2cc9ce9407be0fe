"""Write RESULTS.md from the JSON files of the benchmarks: python benchmarks/collect.py.

The text above the marked line is written by hand and kept.
"""

import json
from pathlib import Path
from typing import Any

from timing import RESULTS, markdown

PAGE = Path(__file__).parent / "RESULTS.md"
MARK = "<!-- Below this line: written by benchmarks/collect.py. -->"
ORDER = (
    "topk",
    "kl",
    "encoder",
    "training_step",
    "explanation",
    "saving",
    "gallery",
    "data",
    "ddp",
    "insertion_deletion",
    "memory",
    "training_memory",
    "startup",
    "universal",
    "training_rate",
)


def section(result: dict[str, Any]) -> str:
    """Tables and targets of a subject, and the machine that they were measured on."""
    machine = result["machine"]
    on = (
        f"{machine['device']}, {machine['threads']} of {machine['cores']} threads, "
        f"torch {machine['torch']}, Python {machine['python']}; load average at the start "
        f"{machine['load']:.1f}."
    )
    title = result["title"] + (" (quick)" if result["quick"] else "")
    tables = markdown(title, result["tables"], result["targets"])
    heading, rest = tables.split("\n", 1)
    return f"{heading}\n\n`python benchmarks/{result['subject']}.py` on {on}\n{rest}"


def main() -> None:
    """Write the page."""
    found = [RESULTS / f"{subject}.json" for subject in ORDER]
    sections = [section(json.loads(path.read_text())) for path in found if path.is_file()]
    by_hand = PAGE.read_text().partition(MARK)[0] if PAGE.is_file() else "# Results\n\n"
    PAGE.write_text("\n\n".join([by_hand + MARK, *sections]) + "\n")
    print(PAGE)


if __name__ == "__main__":
    main()
