"""Broken numbers: of a classifier, of a batch."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.finite_check import StopAtNonFinite
from saliency_vae.training.module import VariationalSaliency
from tests.conftest import Blobs, BlobsData, MakeModule, blobs, make_trainer
from tests.faults.broken_networks import (
    BreaksAt,
    Flat,
    Maps,
    NoBatch,
    NoGradient,
    NotFinite,
    OneClass,
    OneSize,
    Probabilities,
    Several,
)


class NamedBlobs(Blobs):
    """Blobs with names, as of files."""

    def name(self, index: int) -> str:
        return f"blob_{index:02}.png"


class NamedBlobsData(BlobsData):
    """Blobs with names."""

    def __init__(self) -> None:
        super().__init__()
        self.train_set, self.val_set = NamedBlobs(32, seed=1), NamedBlobs(16, seed=2)


def fit_until_broken(
    run: Path, module: VariationalSaliency, every_n_steps: int = 50, **trainer: object
) -> str:
    """The line that a run ends with."""
    callbacks = [RunCheckpoints(str(run), every_n_steps=2), StopAtNonFinite(every_n_steps)]
    with pytest.raises(FloatingPointError) as error:
        make_trainer(run, callbacks, max_epochs=2, **trainer).fit(
            module, datamodule=NamedBlobsData()
        )
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["loss", "gradient"])
@pytest.mark.parametrize("every_n_steps", [1, 50])
def test_a_broken_batch_stops_the_run_and_is_named(
    kind: str, every_n_steps: int, make_module: MakeModule, tmp_path: Path
) -> None:
    data = NamedBlobsData()
    assert isinstance(data.train_set, Blobs)
    data.trainer = make_trainer(tmp_path)
    order = list(data.train_dataloader().sampler)  # of the first epoch
    broken = order[2 * 8 + 5]  # in the third batch
    image = data.train_set.images[broken].float() / 255
    module = make_module(classifier=FrozenClassifier(BreaksAt(image, kind), name="breaks"))
    said = fit_until_broken(tmp_path, module, every_n_steps)
    assert "step 3 (epoch 0, batch 2)" in said
    if kind == "loss":
        assert "a loss of nan" in said
        assert f"from blob_{broken:02}.png." in said
    else:
        assert "gradients of norm nan" in said
        for index in order[16:24]:
            assert f"blob_{index:02}.png" in said
    assert f"Last good checkpoint: {tmp_path}/last.ckpt (step 2)" in said
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_a_broken_validation_image_is_named(make_module: MakeModule, tmp_path: Path) -> None:
    image = NamedBlobs(16, seed=2).images[11].float() / 255
    module = make_module(classifier=FrozenClassifier(BreaksAt(image, "loss"), name="breaks"))
    said = fit_until_broken(tmp_path, module, num_sanity_val_steps=0)
    assert "validation after step 4 (batch 1)" in said
    assert "blob_11.png." in said


def test_images_without_names_are_numbered(make_module: MakeModule, tmp_path: Path) -> None:
    module = make_module(classifier=FrozenClassifier(BreaksAt(blobs()[5], "loss"), name="b"))
    data = BlobsData()
    data.val_set = Blobs(8, seed=3)
    trainer = make_trainer(tmp_path, [StopAtNonFinite()], max_epochs=1)
    with pytest.raises(FloatingPointError, match=r"from image 5 of the data set\. .* none yet"):
        trainer.fit(module, datamodule=data)


def test_numbers_are_looked_at_now_and_then_only(
    make_module: MakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = StopAtNonFinite._check

    def counted(self: StopAtNonFinite, trainer: object) -> None:
        looks.append(len(self._seen))
        look(self, trainer)  # type: ignore[arg-type]

    monkeypatch.setattr(StopAtNonFinite, "_check", counted)
    make_trainer(tmp_path, [StopAtNonFinite(3)], max_epochs=1, num_sanity_val_steps=0).fit(
        make_module(), datamodule=BlobsData()
    )
    assert looks == [3, 3]  # after the third step; the fourth with two batches of validation


@pytest.mark.parametrize("width", [None, 2])
@pytest.mark.parametrize(
    ("network", "found"),
    [
        (NotFinite(), "24 of 24 not finite"),
        (Flat(), "the same for all images"),
        (NoBatch(), "shape (3,)"),
        (Maps(), "shape (8, 3, 16, 16)"),
        (OneClass(), "shape (8, 1)"),
        (Several(), "Found dict"),
        (NoGradient(), "no gradient"),
        (Probabilities(), "probabilities"),
        (OneSize(), "an error for images of 16x16 (AssertionError: Wrong image width)"),
    ],
)
def test_a_broken_classifier_is_refused_before_the_first_batch(
    network: nn.Module,
    found: str,
    width: int | None,
    make_module: MakeModule,
    tmp_path: Path,
) -> None:
    classifier = FrozenClassifier(network, name="mine")
    module = make_module(classifier=classifier, confidence_width=width)
    with pytest.raises(ValueError, match="Expected classifier mine to map 8") as error:
        make_trainer(tmp_path, max_epochs=1).fit(module, datamodule=BlobsData())
    assert found in str(error.value)
    assert "\n" not in str(error.value)
    assert module.trainer.global_step == 0


def test_one_logit_suits_sigmoid(make_module: MakeModule, tmp_path: Path) -> None:
    classifier = FrozenClassifier(OneClass(), name="one", output="sigmoid")
    module = make_module(classifier=classifier)
    make_trainer(tmp_path, max_epochs=1).fit(module, datamodule=BlobsData())
    loss: Tensor = module.trainer.callback_metrics["val/loss"]
    assert math.isfinite(loss)
