"""Plugin of pytest that starts the accelerator."""

import pytest

from tests.devices.accelerator import start


def pytest_configure(config: pytest.Config) -> None:
    """Start it before any check is imported."""
    start()
