"""The console script: it lists commands, runs them, and says what was mistyped."""

import subprocess
import sys
from pathlib import Path

import pytest

from saliency_vae.__main__ import COMMANDS, main
from tests.test_floors import COMMANDS as MODULES

HEAVY = ("torch", "hydra", "lightning", "numpy")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "saliency_vae", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_lists_every_command_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv[1:] = ['--help']; from saliency_vae.__main__ import main; main(); "
        f"assert not set(sys.modules) & set({HEAVY})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed == set(COMMANDS) == MODULES


def test_a_command_gets_its_arguments_and_its_exit_status() -> None:
    found = run("explain", "--help")
    assert (found.returncode, "output_dir" in found.stdout) == (0, True)
    wrong = run("explain", "images=/nowhere.png", "fraction=2", "output_dir=out")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert wrong.stderr.startswith("error: Expected 0 < fraction <= 1")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("explian", " Did you mean explain?"), ("trian", " Did you mean train?"), ("x\033", "")],
)
def test_a_mistyped_command(typed: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["saliency-vae", typed])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = typed.replace("\033", "\ufffd")
    expected = f"error: Expected a command among {', '.join(COMMANDS)}. Found {printed}.{hint}"
    assert stopped.value.code == expected


def test_the_console_script_is_installed_under_its_name() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert 'saliency-vae = "saliency_vae.__main__:main"' in text
