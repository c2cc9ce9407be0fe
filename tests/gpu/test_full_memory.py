"""A GPU that is full ends a command with one line that names the setting to change."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_vae.explain import explain
from saliency_vae.runtime.memory import LESS
from tests.gpu.conftest import train_digits

pytestmark = pytest.mark.gpu
MORE = 2**26  # bytes that may be taken beyond those in use


@pytest.fixture
def little_memory(gpu: torch.device) -> Iterator[None]:
    """Leave this process little of the GPU's memory; other processes keep theirs."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + MORE) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("little_memory")
def test_training_names_what_needs_less(gpu: torch.device, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        train_digits(tmp_path, gpu, "encoder=unet", "encoder.channels=[2048,4096]")
    message = str(ended.value)
    assert message.startswith(f"error: Expected {LESS['train']}, to fit into memory. Found it full")
    assert "\n" not in message


def test_explaining_names_the_batch_size(
    trained: Path,
    gpu: torch.device,
    little_memory: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    given = [f"explainer={trained}", f"images={tmp_path}/large.png", f"output_dir={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["explain.py", *given, "device=cuda", "force=true"])
    with pytest.raises(SystemExit) as ended:
        explain()
    message = str(ended.value)
    assert message.startswith("error: Expected batch_size < "), message
    assert not (tmp_path / "out/broken.txt").exists()
