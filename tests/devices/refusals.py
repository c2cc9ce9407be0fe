"""The accelerator refuses what a GPU refuses, and takes what a GPU takes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.devices.accelerator import NAME, waits

DEVICE = torch.device(NAME, 0)
CPU_NOISE = torch.Generator().manual_seed(0)

MIXED: dict[str, Callable[[Tensor], object]] = {
    "a constant of the CPU": lambda x: x + torch.ones(4),
    "a tensor of the CPU beside a number": lambda x: torch.ones(3) * x.sum(),
    "a mask for a tensor of the CPU": lambda x: torch.ones(3)[x[:, 0] > 0],
    "a mask of the CPU in torch.where": lambda x: torch.where(torch.ones(4) > 0, x, x),
    "numbers of two devices in torch.stack": lambda x: torch.stack([torch.tensor(1.0), x.sum()]),
    "weights of the CPU": lambda x: F.linear(x, torch.ones(2, 4)),
    "a matrix of the CPU": lambda x: x @ torch.ones(4, 2),
    "indices of the CPU in gather": lambda x: x.gather(1, torch.zeros(3, 1, dtype=torch.long)),
    "a generator of the CPU": lambda x: torch.randn(2, generator=CPU_NOISE, device=DEVICE),
    "an array without cpu()": lambda x: x.numpy(),
}
FITTING: dict[str, Callable[[Tensor], Tensor]] = {
    "a number of the CPU": lambda x: x * torch.tensor(2.0),
    "indices of the CPU": lambda x: x[torch.tensor([0])],
    "a tensor that is moved": lambda x: x + torch.ones(4).to(x),
    "its own generator": lambda x: torch.randn(2, generator=torch.Generator(DEVICE), device=DEVICE),
    "a range": lambda x: torch.arange(4, device=DEVICE) + x,
}


@pytest.mark.parametrize("mixed", MIXED)
def test_refused(mixed: str) -> None:
    with pytest.raises(RuntimeError, match=r"expected (all tensors|a generator)|numpy"):
        MIXED[mixed](torch.rand(3, 4, device=DEVICE))


@pytest.mark.parametrize("fitting", FITTING)
def test_taken(fitting: str) -> None:
    assert FITTING[fitting](torch.rand(3, 4, device=DEVICE)).device == DEVICE


def test_gradients_stay_on_the_device() -> None:
    x = torch.rand(3, device=DEVICE, requires_grad=True)
    (gradient,) = torch.autograd.grad((x**2).sum(), x)
    assert gradient.device == DEVICE
    assert torch.equal(gradient.cpu(), 2 * x.detach().cpu())


def test_timing_waits_before_and_after() -> None:
    from saliency_vae.metrics import timed

    waits.clear()
    timed(lambda: torch.rand(2, device=DEVICE), DEVICE)
    assert waits == [DEVICE, DEVICE]
