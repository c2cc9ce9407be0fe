"""Training in Python on a person's own images and network."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from saliency_vae import Preprocessing, fit, load_explainer
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.own_images import OwnImages
from saliency_vae.models import Explainer
from tests.helpers.tiny_classifier import build

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_what_cannot_be_trained_on_is_refused() -> None:
    network = classifier()
    with pytest.raises(ValueError, match=r"at least two images\. Found 1"):
        fit(universal(network), network, [torch.rand(3, 32, 32)], steps=1)
    for wrong in ("photographs", DataLoader(TensorDataset(torch.rand(4, 3, 32, 32)))):
        with pytest.raises(ValueError, match=r"list of photographs or files, .* Found (str|Data)"):
            fit(universal(network), network, wrong, steps=1)  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match=r"steps >= 1, a whole number\. Found 0"):
        fit(universal(network), network, [torch.rand(3, 32, 32)] * 4, steps=0)
    with pytest.raises(ValueError, match=r"FrozenClassifier\. Found"):
        fit(universal(network), network.network, [torch.rand(3, 32, 32)] * 4)  # type: ignore[arg-type]
