"""Computing on several devices of one machine, with one process for each."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, get_start_method, set_start_method
from typing import TypeVar

import torch

from saliency_vae.inference.savers import end_with_parent
from saliency_vae.runtime.device import pick_device

T = TypeVar("T")


def each_device(name: str, number: int, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Name the devices to compute on.

    Args:
        name: Setting of the device, as :func:`saliency_vae.runtime.device.pick_device` takes it.
        number: Number of devices; for the CPU, number of processes.
        environment: Environment variables, in which torchrun names the device of a process.

    Raises:
        ValueError: If there are fewer devices.
    """
    device = pick_device(name)
    if device.type == "cpu":
        return ["cpu"] * number
    if number == 1:
        local = environment.get("LOCAL_RANK") if name == "auto" else None
        return [str(device) if local is None else f"{device.type}:{local}"]
    there = torch.accelerator.device_count()
    if name not in ("auto", device.type) or number > there:
        raise ValueError(
            f"Expected devices <= {there}, with device=auto. Found devices={number} device={name}."
        )
    return [f"{device.type}:{index}" for index in range(number)]


def in_processes(function: Callable[[T], None], arguments: Sequence[T]) -> None:
    """Call a function on each argument in a separate process, and wait for all.

    Raises:
        BrokenProcessPool: If one of the processes was killed.
    """
    with ProcessPoolExecutor(
        len(arguments),
        mp_context=get_context("spawn"),  # an accelerator does not survive a fork
        initializer=_start,
        initargs=(get_start_method(),),
    ) as pool:
        for _ in pool.map(function, arguments):
            pass


def _start(method: str) -> None:
    """Give a process its parent's start method, and end it when the parent ends."""
    set_start_method(method, force=True)
    end_with_parent()
