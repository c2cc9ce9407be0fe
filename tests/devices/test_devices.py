"""No tensor is left on the CPU where the others are on an accelerator."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


CHECKS = (
    "refusals.py",
    "training.py",
    "commands.py::test_evaluate_digits",
    "commands.py::test_evaluate_cutouts",
    "commands.py::test_explain",
)


@pytest.mark.parametrize("checks", CHECKS)
def test_on_a_pretended_accelerator(checks: str) -> None:
    plugin = f"{__package__}.started"  # in a process of its own, which keeps the accelerator
    command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, str(HERE / checks)]
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
