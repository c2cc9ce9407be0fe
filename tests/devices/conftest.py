"""Leaves the checks on the accelerator to the processes that started it, see test_devices.py."""

from pathlib import Path

from tests.devices.accelerator import is_started

_CHECKS = {"refusals.py", "training.py", "commands.py"}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Ignore the checks elsewhere."""
    return True if collection_path.name in _CHECKS and not is_started() else None
