"""No tensor is left on the CPU where the others are on an accelerator."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


# Those of a line share a process: to start one takes longer than most of them.
CHECKS = (
    (
        "refusals.py",
        "training.py",
        "commands.py::test_explain",
        "commands.py::test_explain_in_python",
    ),
    ("commands.py::test_evaluate_digits", "commands.py::test_evaluate_cutouts"),
)


@pytest.mark.parametrize("checks", CHECKS, ids=("parts", "evaluations"))
def test_on_a_pretended_accelerator(checks: tuple[str, ...]) -> None:
    plugin = f"{__package__}.started"  # in a process of its own, which keeps the accelerator
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin]
    command += [str(HERE / check) for check in checks]
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
