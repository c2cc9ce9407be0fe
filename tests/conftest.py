"""Small things to train on, shared by the tests of training."""

import gc
import logging
import socket
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import Dataset

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.data.batch import Batch
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.distributions import Family, KroneckerNormal
from saliency_vae.models.encoders import PaperEncoder
from saliency_vae.models.explainer import Explainer
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Mean
from saliency_vae.topk import SoftTopK
from saliency_vae.training.module import VariationalSaliency

SIZE = 16
LONGEST = ("test_devices.py", "test_notebooks.py")  # a minute or more each


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep Python's search for unused objects from all that is imported, and during the imports.

    To look through it again and again takes a seventh of the time of small tests.
    """
    gc.disable()
    found = yield
    gc.freeze()
    gc.enable()
    return found


def pytest_unconfigure() -> None:
    """Let Python find what was left out when it ends, as some libraries complain otherwise."""
    gc.unfreeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest: if they came last, one process would wait for the other."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """On busy cores a second thread makes small training steps many times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Blobs(Dataset[Batch]):
    """Dark noise with one bright square: its place is the class."""

    def __init__(self, size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randint(0, 60, (size, 3, SIZE, SIZE), generator=generator)
        for index, (top, left) in enumerate(
            torch.randint(0, SIZE - 5, (size, 2), generator=generator).tolist()
        ):
            self.images[index, :, top : top + 5, left : left + 5] += 180
        self.images = self.images.to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return {"image": self.images[index], "index": torch.tensor(index)}


class BlobsData(SaliencyDataModule):
    """32 training and 16 validation images."""

    def __init__(self, batch_size: int = 8) -> None:
        super().__init__(batch_size=batch_size, num_workers=0, seed=0)
        self.train_set, self.val_set = Blobs(32, seed=1), Blobs(16, seed=2)


def blob_classifier(seed: int = 0) -> FrozenClassifier:
    """Classify by which quarter is bright, with a little noise in the weights."""
    pooled = nn.Sequential(nn.AvgPool2d(SIZE // 2), nn.Flatten(), nn.Linear(12, 4))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = 12 * torch.eye(4).repeat(1, 3) + 0.1 * torch.randn(4, 12)
    pooled.load_state_dict({"2.weight": weights, "2.bias": torch.zeros(4)})
    return FrozenClassifier(pooled, name="blobs")


def objective(beta: float = 0.01, perturbation: nn.Module | None = None) -> Objective:
    """Make an objective that suits the blobs."""
    return Objective(SoftTopK((0.1, 0.3), temperature=0.1), perturbation or Mean(), beta)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Let a test draw the same numbers alone and among others."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def root_logger_as_before() -> Iterator[None]:
    """Remove the handlers that a command adds: they would write to a stream that is closed."""
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    for added in set(logging.root.handlers) - set(handlers):
        added.close()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def compose_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command compose its configuration once, and not first to see whether it is a sweep.

    Hydra then takes that from ``-m`` alone. To compose takes most of the time of a wrong setting.
    """
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *_, **__: None)


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Let the commands that tests call in this process compose their configuration once."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        compose_once(monkeypatch)
        yield


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is resolved, no connection made, and to wait for a second try fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(time, "sleep", lambda *_: pytest.fail("a wait for the network"))


def draw_plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in an evaluation: nearly all of its time would go into its figures."""
    drawn = {"curves": Figure((1, 1)), "speed": Figure((1, 1))}
    monkeypatch.setattr("saliency_vae.evaluation.report.files.figures", lambda results: dict(drawn))
    monkeypatch.setattr(
        "saliency_vae.evaluation.report.files.gallery_figure",
        lambda *shown, **roles: Figure((1, 1)),
    )


@pytest.fixture
def plain_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in an evaluation."""
    draw_plain_figures(monkeypatch)


def draw_plain_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in a training: most of a small one would go into its explanations."""
    monkeypatch.setattr(
        "saliency_vae.training.panels.explanation_figure", lambda *_, **__: Figure((1, 1))
    )


@pytest.fixture
def plain_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in a training."""
    draw_plain_panels(monkeypatch)


MakeModule = Callable[..., VariationalSaliency]


@pytest.fixture
def make_module() -> MakeModule:
    """Make a small LightningModule; arguments replace its own."""

    def make(posterior: Family = "mean_field", **arguments: Any) -> VariationalSaliency:
        torch.manual_seed(0)
        explainer = Explainer(
            PaperEncoder((8, 8)),
            prior=partial(KroneckerNormal, correlation=0.9),
            posterior=posterior,
        )
        defaults: dict[str, Any] = {
            "explainer": explainer,
            "classifier": blob_classifier(),
            "objective": objective(),
            "optimizer": partial(torch.optim.Adam, lr=1e-2),
        }
        return VariationalSaliency(**(defaults | arguments))

    return make


def make_trainer(run: Path, callbacks: list[Callback] | None = None, **arguments: Any) -> Trainer:
    """Make a quiet Trainer on one CPU."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "default_root_dir": run,
        "enable_checkpointing": any("Checkpoint" in type(c).__name__ for c in callbacks or []),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 2,
    }
    return Trainer(callbacks=callbacks, **(defaults | arguments))


def blobs(size: int = 8) -> Tensor:
    """Images in [0, 1], (size, 3, 16, 16)."""
    return Blobs(size, seed=3).images.float() / 255
