"""Processes that read images: as many as there are cores."""

import os

import pytest

from saliency_vae.runtime.device import loader_processes


def test_no_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert [loader_processes(wanted) for wanted in (0, 1, 2, 9)] == [0, 1, 2, 2]
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert loader_processes(9) == 4
