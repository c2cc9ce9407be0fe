"""Too little memory ends a command with one line that names the setting to change."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_vae.evaluate import evaluate
from saliency_vae.evaluation.methods import ExplainerMethod
from saliency_vae.explain import explain
from saliency_vae.inference.predict import BatchExplainer
from saliency_vae.runtime.memory import is_out_of_memory, suggesting
from tests.faults.made import DIGITS, make_explainer


def full_cpu(*_: Any, **__: Any) -> Any:
    return torch.empty(2**50)  # four petabytes: refused at once


def full_numpy(*_: Any, **__: Any) -> Any:
    return np.empty(2**50)


def full_accelerator(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")


FULL = [full_cpu, full_numpy, full_accelerator]


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_explainer(tmp_path_factory.mktemp("explainer"))


def error_of(command: Callable[[], None], given: list[str], patch: pytest.MonkeyPatch) -> str:
    patch.setattr(sys, "argv", ["command.py", *given])
    with pytest.raises(SystemExit) as ended:
        command()
    message = str(ended.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("full", FULL)
def test_explaining(
    full: Callable[..., Any], explainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are not reported as broken: the next batch would not fit either."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images/a.png")
    monkeypatch.setattr(BatchExplainer, "__call__", full)
    given = [f"explainer={explainer}", f"images={tmp_path}/images", f"output_dir={tmp_path}/out"]
    message = error_of(explain, given, monkeypatch)
    assert message.startswith("error: Expected batch_size < 32, or smaller images, to fit")
    assert not (tmp_path / "out/broken.txt").exists()


@pytest.mark.parametrize("full", FULL)
def test_evaluating(
    full: Callable[..., Any], explainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExplainerMethod, "__call__", full)
    given = [f"explainer={explainer}", *DIGITS, "methods=[explainer]", f"hydra.run.dir={tmp_path}"]
    message = error_of(evaluate, given, monkeypatch)
    assert message.startswith("error: Expected batch_size < 50, to fit into memory. Found it full")


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="Storage size"), suggesting("less"):
        torch.empty(2**62, dtype=torch.int64)
    with pytest.raises(ValueError, match="x"), suggesting("less"):
        raise ValueError("x")
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
