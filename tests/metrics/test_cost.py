"""Time and memory of an explanation."""

import time

import pytest
import torch

from saliency_vae.metrics.cost import peak_memory, timed

MIB = 2**20 // 4  # numbers of a float tensor of one MiB


def test_what_lives_at_once_counts_together() -> None:
    def function() -> torch.Tensor:
        first, second = torch.zeros(MIB), torch.zeros(2 * MIB)
        return first[:1] + second[:1]

    assert peak_memory(function) == pytest.approx(3 * 2**20, abs=64)


def test_what_is_freed_does_not() -> None:
    def function() -> None:
        for _ in range(5):
            held = torch.zeros(MIB)
            del held

    assert peak_memory(function) == 2**20


def test_the_peak_and_not_the_end() -> None:
    def function() -> torch.Tensor:
        return torch.zeros(4 * MIB)[:1].clone()

    assert peak_memory(function) == pytest.approx(4 * 2**20, abs=64)


def test_views_and_changes_in_place_take_nothing() -> None:
    def function() -> None:
        made = torch.zeros(MIB)
        views = [made[:100], made.view(2, -1), made.t()]
        made.add_(1)
        del views

    assert peak_memory(function) == 2**20


def test_what_was_there_before_does_not_count() -> None:
    given, weights = torch.ones(8 * MIB), torch.ones(8 * MIB)

    def function() -> torch.Tensor:
        given.mul_(2)
        return given[:MIB] * weights[:MIB]

    assert peak_memory(function) == 2**20


def test_it_sees_inside_inference_mode_and_a_backward_pass() -> None:
    weights = torch.ones(MIB, requires_grad=True)

    def learn() -> None:
        weights.square().sum().backward()  # type: ignore[no-untyped-call]

    assert peak_memory(learn) >= 2 * 2**20
    with torch.inference_mode():
        assert peak_memory(lambda: torch.zeros(MIB)) == 2**20


def test_a_failing_call_leaves_no_trace() -> None:
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert peak_memory(lambda: torch.zeros(MIB)) == 2**20


def test_seconds() -> None:
    def slow() -> torch.Tensor:
        time.sleep(0.05)
        return torch.ones(3)

    result, seconds = timed(slow, torch.device("cpu"))
    assert torch.equal(result, torch.ones(3))
    assert 0.05 <= seconds < 1


def test_the_work_of_a_device_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: events.append(str(device)))

    def call() -> torch.Tensor:
        events.append("call")
        return torch.ones(1)

    timed(call, torch.device("cuda", 1))
    assert events == ["cuda:1", "call", "cuda:1"]
