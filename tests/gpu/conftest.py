"""The device, and an explainer that was trained on it."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from saliency_vae.train import train
from tests.faults.made import TRAIN

Train = Callable[..., Path]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The GPU; a test that uses it is skipped where there is none."""
    name = os.environ.get("GPU_TESTS_ON", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("There is no CUDA device.")
    return torch.device(name)


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The GPU, for what the CPU cannot show."""
    if device.type != "cuda":
        pytest.skip("This needs the memory of a CUDA device.")
    return device


@pytest.fixture
def plain_float32() -> Iterator[None]:
    """Convolutions in full float32: by default cuDNN rounds their inputs to 10 bits (TF32)."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def train_digits(run: Path, device: torch.device, *settings: str) -> Path:
    """Train a small explainer with the command; returns its directory."""
    accelerator = "cpu" if device.type == "cpu" else "gpu"
    given = [f"trainer.accelerator={accelerator}", f"classifier.path={run}/digits.safetensors"]
    arguments = [*TRAIN, "logger=csv", *given, f"hydra.run.dir={run}", *settings]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *arguments])
        train()
    return run / "explainer"


@pytest.fixture(scope="module")
def trained(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of an explainer that is conditioned on its classifier, trained on the device."""
    return train_digits(tmp_path_factory.mktemp("trained"), device)
