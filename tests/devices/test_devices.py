"""No tensor is left on the CPU where the others are on an accelerator."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_on_a_pretended_accelerator() -> None:
    """In one process of its own, which keeps the accelerator."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", f"{__package__}.started"]
    command += [str(HERE / name) for name in ("refusals.py", "training.py", "commands.py")]
    ended = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout
