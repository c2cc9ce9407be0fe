"""Training in Python on a person's own images and network."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from saliency_vae import Preprocessing, fit, load_explainer
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.own_images import OwnData, OwnImages
from saliency_vae.models import ConfidenceNetwork, Explainer, ExplainerConfig
from saliency_vae.training.fit import _trainer
from saliency_vae.training.module import VariationalSaliency
from tests.conftest import objective
from tests.helpers.tiny_classifier import build

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def classifier() -> FrozenClassifier:
    torch.manual_seed(0)
    return FrozenClassifier(build(), name="tiny", preprocessing=Preprocessing(32, (32, 32)))


def universal(classifier: FrozenClassifier) -> Explainer:
    return load_explainer("universal", classifier, copies=1)  # fast


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_an_explainer_is_trained_on_files_and_explains(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", (40, 48), (50 * number, 90, 200 - 40 * number)).save(file)
    network = classifier()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    explainer = universal(network)
    weights = {name: value.clone() for name, value in explainer.state_dict().items()}
    state = torch.get_rng_state()
    assert fit(explainer, network, files, steps=2) is explainer
    assert torch.equal(torch.get_rng_state(), state)
    trained = explainer.state_dict()
    assert any(not torch.equal(trained[name], value) for name, value in weights.items())
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert not explainer.training
    assert not any(parameter.requires_grad for parameter in explainer.parameters())
    assert explainer.explain(files[0]).mean.shape == (48, 40)


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_own_data_say_what_to_train_and_to_validate_on() -> None:
    train, val = list(torch.rand(4, 3, 32, 32)), list(torch.rand(2, 3, 32, 32))
    network, data = classifier(), OwnData(train, val, batch_size=2, seed=7)
    explainer = universal(network)
    seen: list[int] = []
    hook = explainer.encoder.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    fit(explainer, network, data, steps=2)
    hook.remove()
    assert seen == [2, 2]


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_a_data_set_of_images_and_labels_will_do() -> None:
    images = torch.rand(4, 3, 32, 32)
    network = classifier()
    explainer = fit(universal(network), network, TensorDataset(images, torch.zeros(4)), steps=1)
    assert explainer(torch.rand(1, 3, 32, 32)).mean.isfinite().all()
    for kind in ([image, 0] for image in images), ({"image": image} for image in images):
        read = OwnImages(list(kind), network.preprocessing)[2]["image"]
        assert torch.equal(read, OwnImages(images, network.preprocessing)[2]["image"])


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_a_training_that_fails_leaves_an_explainer_ready_for_use() -> None:
    network = classifier()
    explainer = universal(network)
    images: list[object] = [*torch.rand(3, 3, 32, 32), "nowhere.jpg"]
    with pytest.raises(OSError, match=r"nowhere\.jpg"):
        fit(explainer, network, images, steps=2)
    assert not explainer.training
    assert not any(parameter.requires_grad for parameter in explainer.parameters())


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_a_training_that_diverges_leaves_the_explainer_as_it_was() -> None:
    network = classifier()
    explainer = universal(network)
    before = {name: value.clone() for name, value in explainer.state_dict().items()}
    with pytest.raises(ValueError, match=r"not finite after it, .* rate below lr=inf"):
        fit(explainer, network, list(torch.rand(3, 3, 32, 32)), steps=2, lr=float("inf"))
    assert all(torch.equal(explainer.state_dict()[name], value) for name, value in before.items())


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_a_diverging_training_leaves_an_encoder_that_was_fitted_to_features_as_it_was() -> None:
    network = classifier()
    prior = {"_target_": "saliency_vae.distributions.KroneckerNormal", "_partial_": True}
    encoder = {"_target_": "saliency_vae.models.conditional_encoder.ConditionalUNet"}
    config = ExplainerConfig(
        encoder={**encoder, "channels": [4, 6]}, prior={**prior, "correlation": 0.5}
    )
    explainer = Explainer.from_config(config)
    before = {name: value.clone() for name, value in explainer.state_dict().items()}
    with pytest.raises(ValueError, match=r"left the explainer as it was"):
        fit(
            explainer,
            network,
            list(torch.rand(3, 3, 32, 32)),
            steps=2,
            lr=float("inf"),
            objective=objective(),
        )
    assert explainer.config == config
    after = explainer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not explainer.training
    assert not any(parameter.requires_grad for parameter in explainer.parameters())


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
@pytest.mark.parametrize("confident", [False, True])
def test_only_a_confidence_network_is_validated(
    confident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = classifier()
    explainer = universal(network)
    if confident:
        name = f"{ConfidenceNetwork.__module__}.{ConfidenceNetwork.__name__}"
        explainer.add_confidence({"_target_": name, "classes": 10, "width": 4})
    validated = []
    step = VariationalSaliency.validation_step

    def validation_step(self: VariationalSaliency, *given: Any) -> Tensor:
        validated.append(given)
        return step(self, *given)

    monkeypatch.setattr(VariationalSaliency, "validation_step", validation_step)
    seen = set()
    images = list(torch.rand(4, 3, 32, 32))
    hook = explainer.encoder.register_forward_pre_hook(lambda _, given: seen.add(len(given[0])))
    fit(explainer, network, images, steps=2)
    hook.remove()
    assert bool(validated) == confident
    assert seen == ({3, 1} if confident else {4})  # all are trained on where none is validated


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
def test_one_image_is_enough_where_nothing_is_validated() -> None:
    network = classifier()
    fit(universal(network), network, [torch.rand(3, 32, 32)], steps=1)


def test_the_number_of_steps_is_said_once() -> None:
    network = classifier()
    images = list(torch.rand(4, 3, 32, 32))
    with pytest.raises(ValueError, match=r"steps or trainer\. Found steps=50 beside a trainer"):
        fit(universal(network), network, images, steps=50, trainer=Trainer(max_epochs=1, **QUIET))
    endless = Trainer(max_epochs=-1, max_time={"seconds": 2}, **QUIET)
    with pytest.raises(ValueError, match=r"max_epochs or max_steps, .* Found neither"):
        fit(universal(network), network, images, trainer=endless)


def test_a_machine_of_several_gpus_trains_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lightning.fabric.accelerators.cuda", "lightning.pytorch.accelerators.cuda"):
        monkeypatch.setattr(f"{module}.num_cuda_devices", lambda: 4)
    trainer = _trainer(1, False)
    assert trainer.num_devices == trainer.world_size == 1


def test_sharpness_which_a_universal_explainer_does_not_use_is_refused() -> None:
    network = classifier()
    sharp = replace(objective(), sharpness=4)
    with pytest.raises(ValueError, match=r"sharpness 1 for a universal explainer.* Found 4"):
        fit(universal(network), network, [torch.rand(3, 32, 32)] * 4, steps=1, objective=sharp)


class Endless(IterableDataset[Tensor]):
    """Images without a number."""

    def __iter__(self) -> Iterator[Tensor]:
        yield torch.rand(3, 32, 32)


def test_what_cannot_be_trained_on_is_refused() -> None:
    network = classifier()
    with pytest.raises(ValueError, match=r"at least one image\. Found 0"):
        fit(universal(network), network, [], steps=1)
    one = Trainer(max_steps=1, **QUIET)
    with pytest.raises(ValueError, match=r"at least two images, one to validate on\. Found 1"):
        fit(universal(network), network, [torch.rand(3, 32, 32)], trainer=one)
    for wrong in (
        "photographs",
        DataLoader(TensorDataset(torch.rand(4, 3, 32, 32))),
        Endless(),
        {"cat": torch.rand(3, 32, 32), "dog": torch.rand(3, 32, 32)},
    ):
        kind = type(wrong).__name__
        with pytest.raises(ValueError, match=rf"list of photographs or files, .* Found {kind}"):
            fit(universal(network), network, wrong, steps=1)  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match=r"steps >= 1, a whole number\. Found 0"):
        fit(universal(network), network, [torch.rand(3, 32, 32)] * 4, steps=0)
    with pytest.raises(ValueError, match=r"FrozenClassifier\. Found"):
        fit(universal(network), network.network, [torch.rand(3, 32, 32)] * 4)  # type: ignore[arg-type]
