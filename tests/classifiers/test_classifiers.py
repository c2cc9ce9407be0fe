"""Frozen classifiers: never trained, differentiable, and fed what their weights expect."""

import copy
import math
import pickle
import subprocess
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers.builders import (
    custom_classifier,
    timm_classifier,
    torchvision_classifier,
)
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity, parameter_hash
from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.classifiers.state_dict import load_state_dict
from saliency_vae.classifiers.targets import Output
from saliency_vae.data.preprocessing import Preprocessing

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def network(classes: int = 5) -> nn.Sequential:
    """Small, with batch norm and dropout, whose output tells train from eval mode."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, classes),
    )


def frozen(output: Output = "softmax", classes: int = 5) -> FrozenClassifier:
    return FrozenClassifier(network(classes), name="net", mean=MEAN, std=STD, output=output)


def test_it_stays_in_eval_mode_alone_and_as_a_child() -> None:
    classifier, images = frozen(), torch.rand(4, 3, 8, 8)
    before = classifier(images)
    buffers = {name: buffer.clone() for name, buffer in classifier.named_buffers()}
    parent = nn.ModuleDict({"classifier": classifier, "other": nn.Dropout()})
    classifier.train()
    parent.train()
    assert parent["other"].training
    assert not any(module.training for module in classifier.modules())
    assert torch.equal(classifier(images), before)
    for name, buffer in classifier.named_buffers():  # no running statistics either
        assert torch.equal(buffer, buffers[name])


def test_gradients_reach_the_image_and_no_parameter() -> None:
    classifier = frozen()
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    classifier(images)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().flatten(1).sum(1).min() > 0
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_the_users_network_stays_as_it_was_and_can_be_trained() -> None:
    """The weights share memory, so that the classifier follows; nothing else is shared."""
    mine = network().train()
    mine[0].weight.requires_grad_(False)
    classifier = FrozenClassifier(mine, name="net", mean=MEAN, std=STD)
    assert all(module.training for module in mine.modules())
    assert [p.requires_grad for p in mine.parameters()] == [False] + [True] * 5
    for owned, shared in zip(mine.parameters(), classifier.network.parameters(), strict=True):
        assert owned is not shared
        assert owned.data_ptr() == shared.data_ptr()
    hashed, images = classifier.identity().sha256, torch.rand(2, 3, 8, 8)
    assert hashed == parameter_hash(mine)
    kept = copy.deepcopy(classifier)
    before = classifier(images)
    mine(images).square().sum().backward()
    torch.optim.SGD(mine.parameters(), 0.1).step()
    assert classifier.identity().sha256 == parameter_hash(mine) != hashed
    assert not torch.equal(classifier(images), before)
    assert torch.equal(kept(images), before)
    loaded = pickle.loads(pickle.dumps(classifier))
    assert torch.equal(loaded(images), classifier(images))
    classifier.double()
    assert {p.dtype for p in mine.parameters()} == {torch.float32}


def test_hooks_of_the_network_and_of_the_classifier() -> None:
    mine, calls = network(), list[str]()
    mine[0].register_forward_hook(lambda *_: calls.append("mine"))
    classifier = FrozenClassifier(mine, name="net")
    cast(nn.Sequential, classifier.network)[0].register_forward_hook(lambda *_: calls.append("its"))
    classifier(torch.rand(1, 3, 8, 8))
    assert calls == ["mine", "its"]
    mine(torch.rand(1, 3, 8, 8))
    assert calls == ["mine", "its", "mine"]


def test_a_hook_of_the_whole_network_changes_what_is_explained() -> None:
    mine = network()
    mine.register_forward_pre_hook(lambda _, inputs: (10 * inputs[0],))
    mine.register_forward_hook(lambda _, inputs, logits: {"logits": logits}["logits"][:, :2])
    classifier, images = FrozenClassifier(mine, name="net"), torch.rand(2, 3, 8, 8)
    assert torch.equal(classifier.forward_uncompiled(images), classifier(images))


def test_it_is_where_its_network_is() -> None:
    classifier = FrozenClassifier(network().to("meta"), name="net", mean=MEAN, std=STD)
    assert classifier(torch.empty(2, 3, 8, 8, device="meta")).shape == (2, 5)


def test_tied_and_parametrised_weights() -> None:
    layer = nn.Linear(192, 4)
    tied = nn.Linear(192, 4)
    tied.weight = layer.weight
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    mine = nn.Sequential(nn.Flatten(), nn.ModuleList([layer, tied])[0], normed)
    mine.add_module("unused", nn.Identity())
    mine.register_module("tied", nn.Sequential(nn.Linear(4, 192), nn.Flatten(), tied))
    images = torch.rand(2, 3, 8, 8)
    classifier = FrozenClassifier(mine, name="net")
    assert len(list(classifier.network.parameters())) == len(list(mine.parameters()))
    torch.testing.assert_close(classifier(images), mine.eval()(images))
    mine(images).sum().backward()
    assert layer.weight.grad is not None


class Locked(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ("resnet18", "Expected a network, an nn.Module .* Found str"),
        (frozen(), "Expected a network, an nn.Module .* Found FrozenClassifier"),
        (Locked(), "Expected a network that copy.deepcopy can copy. .* cannot pickle"),
    ],
)
def test_what_is_no_network(wrong: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as error:
        FrozenClassifier(wrong, name="wrong")
    assert "\n" not in str(error.value)


def test_torchscript_is_no_network_either() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.jit is deprecated, and still in use
        scripted = torch.jit.trace(nn.Linear(2, 1), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match=r"of Python modules\. Found TorchScript"):
        FrozenClassifier(nn.Sequential(scripted))


def test_mean_and_std_may_be_tensors() -> None:
    images, mean, std = torch.rand(2, 3, 8, 8), torch.tensor(MEAN), torch.tensor(STD)
    given = FrozenClassifier(network(), mean=mean, std=std)
    expected = FrozenClassifier(network(), mean=MEAN, std=STD)
    torch.testing.assert_close(given(images), expected(images))
    with pytest.raises(ValueError, match="of 3 numbers"):
        FrozenClassifier(network(), mean=mean[:, None, None], std=std)


def test_it_normalises_images_itself() -> None:
    classifier, images = frozen(), torch.rand(2, 3, 8, 8)
    normalised = images.clone()
    for channel in range(3):
        normalised[:, channel] = (images[:, channel] - MEAN[channel]) / STD[channel]
    expected = network().eval()(normalised)
    torch.testing.assert_close(classifier(images), expected)
    assert not torch.allclose(classifier(images), network().eval()(images))


class Layout(nn.Module):
    """Notes in which memory format it gets images, and reshapes feature maps as it is told."""

    def __init__(self, reshape: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)
        self.reshape, self.seen = reshape, list[bool]()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.is_contiguous(memory_format=torch.channels_last))
        out: Tensor = self.linear(self.reshape(self.convolution(images)))
        return out


@pytest.mark.parametrize(
    ("reshape", "taken"),
    [
        (lambda maps: maps.flatten(1), True),
        (lambda maps: maps.view(len(maps), -1), False),  # as in many tutorials
        (lambda maps: maps.view(-1, 1, 6, 6).reshape(len(maps), -1), False),  # takes one image so
    ],
)
def test_channels_last_where_the_network_takes_it(
    reshape: Callable[[Tensor], Tensor], taken: bool
) -> None:
    classifier, images = FrozenClassifier(Layout(reshape)), torch.rand(2, 3, 8, 8)
    before = classifier(images)
    classifier.prefer_channels_last(images)
    torch.testing.assert_close(classifier(images), before)
    layout = classifier.network
    assert isinstance(layout, Layout)
    assert layout.seen == [False, True, taken]
    assert classifier.channels_last is taken
    classifier.prefer_channels_last(images)
    assert len(layout.seen) == 3


class Stateful(nn.Linear):
    """Keeps a tensor of its first pass, and returns nothing from train(), as many networks do."""

    grid: Tensor | None = None

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)

    def forward(self, images: Tensor) -> Tensor:
        self.grid = torch.linspace(0, 1, 8) if self.grid is None else self.grid
        return super().forward((images * self.grid).flatten(1))


def test_a_network_that_keeps_a_tensor_has_gradients_after_it_is_tried() -> None:
    classifier, images = FrozenClassifier(Stateful(192, 2)), torch.rand(2, 3, 8, 8)
    classifier.prefer_channels_last(images)
    classifier(images.requires_grad_()).sum().backward()


def test_logits_are_float32_whatever_the_network_gives() -> None:
    half = FrozenClassifier(network().bfloat16(), name="half", mean=MEAN, std=STD)
    half = half.bfloat16()
    assert half(torch.rand(2, 3, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    "arguments",
    [
        {"std": (1.0, 0.0, 1.0)},
        {"std": (1.0, -1.0, 1.0)},
        {"mean": (0.0,)},
        {"mean": 0.5, "std": 0.2},
        {"std": (1.0, 1.0, 1.0, 1.0)},
        {"output": "tanh"},
        {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
        {"std": (255, 255, 255)},
        {"mean": (math.nan, 0.5, 0.5)},
        {"preprocessing": torch.nn.Identity()},
        {"categories": {0: "cat", 1: "dog"}},
        {"categories": "names.txt"},
        {"categories": [0, 1]},
    ],
)
def test_wrong_settings(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected classifier\..* Found"):
        FrozenClassifier(network(), name="net", **arguments)


def test_softmax_divergence_agreement_and_probabilities() -> None:
    classifier = frozen()
    target = torch.tensor([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    prediction = torch.tensor([[3.0, 2.0, 2.5], [1.0, 0.5, 0.0]])
    y, y_perturbed = target.softmax(-1), prediction.softmax(-1)
    expected = [
        sum(a * float(np.log(a / b)) for a, b in zip(p.tolist(), q.tolist(), strict=True))
        for p, q in zip(y, y_perturbed, strict=True)
    ]
    torch.testing.assert_close(classifier.divergence(target, prediction), torch.tensor(expected))
    assert classifier.divergence(target, target).abs().max() < 1e-6
    assert classifier.agreement(target, prediction).tolist() == [True, False]
    torch.testing.assert_close(classifier.probabilities(target), y)


def test_sigmoid_divergence_agreement_and_probabilities() -> None:
    classifier = frozen("sigmoid")
    target = torch.tensor([[2.0, -1.0], [0.5, -3.0]])
    prediction = torch.tensor([[0.1, -2.0], [0.5, 0.2]])
    p, q = target.sigmoid(), prediction.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(-1)
    torch.testing.assert_close(classifier.divergence(target, prediction), expected)
    assert classifier.agreement(target, prediction).tolist() == [True, False]
    torch.testing.assert_close(classifier.probabilities(target), p)


def test_a_single_logit_needs_sigmoid() -> None:
    target, prediction = torch.tensor([[2.0], [-1.0]]), torch.tensor([[-2.0], [-3.0]])
    classifier = frozen("sigmoid", classes=1)
    assert classifier(torch.rand(2, 3, 8, 8)).shape == (2, 1)
    p = target.sigmoid()
    cross = F.binary_cross_entropy_with_logits(prediction, p, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(target, p, reduction="none")
    divergence = classifier.divergence(target, prediction)
    torch.testing.assert_close(divergence, (cross - entropy).squeeze(-1))
    assert divergence.min() > 0
    assert classifier.agreement(target, prediction).tolist() == [False, True]


def test_the_hash_notices_each_weight_and_buffer() -> None:
    original = parameter_hash(network())
    assert original == parameter_hash(network())
    assert len(original) == 64
    hashes = {original}
    names = list(network().state_dict())
    assert "1.running_mean" in names
    assert "1.num_batches_tracked" in names
    for name in names:
        changed = network()
        tensor = changed.state_dict()[name]
        tensor.view(-1)[-1] += 1
        hashes.add(parameter_hash(changed))
    assert len(hashes) == 1 + len(names)


def test_the_hash_notices_names_shapes_and_types() -> None:
    layers = [nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)]
    for layer in layers:
        nn.init.zeros_(layer.weight)
    hashes = {parameter_hash(layer) for layer in layers}
    hashes |= {parameter_hash(layers[0].bfloat16()), parameter_hash(nn.Sequential(layers[1]))}
    assert len(hashes) == 4


@pytest.mark.filterwarnings("ignore:.*quantize.*deprecated:UserWarning")
def test_a_quantised_network_has_a_hash_and_nothing_to_shuffle() -> None:
    hashes = set()
    for scale, value in ((0.1, 0.1), (0.1, 0.2), (0.2, 0.2)):
        weight = torch.quantize_per_tensor(torch.full((3, 2), value), scale, 0, torch.qint8)
        layer: Any = torch.ao.nn.quantized.dynamic.Linear(2, 3)  # type: ignore[no-untyped-call]
        layer.set_weight_bias(weight, torch.zeros(3))
        classifier = FrozenClassifier(layer)
        hashes.add(classifier.identity().sha256)
    assert len(hashes) == 3
    with pytest.raises(ValueError, match=r"can be shuffled, .* Found none"):
        randomised_classifier(classifier)


def test_the_hash_ignores_memory_format_mode_and_freezing() -> None:
    original = parameter_hash(network())
    assert parameter_hash(network().to(memory_format=torch.channels_last)) == original
    assert parameter_hash(network().eval().requires_grad_(False)) == original
    if torch.cuda.is_available():
        assert parameter_hash(network().cuda()) == original


def test_the_identity_says_which_classifier() -> None:
    identity = frozen("sigmoid").identity()
    assert identity.mean == pytest.approx(MEAN)
    assert identity.std == pytest.approx(STD)
    assert identity == ClassifierIdentity(
        name="net",
        weights=None,
        output="sigmoid",
        mean=identity.mean,
        std=identity.std,
        sha256=parameter_hash(network()),
    )


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download")
    )
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process"))


@pytest.mark.usefixtures("no_download")
def test_torchvision_with_random_weights() -> None:
    classifier = torchvision_classifier("resnet18", weights=None, output="sigmoid")
    assert classifier.name == "torchvision/resnet18"
    assert classifier.weights is None
    assert classifier.output == "sigmoid"
    assert classifier(torch.rand(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("name", ["resnet19", "fasterrcnn_resnet50_fpn", "", "raft_small"])
def test_unknown_torchvision_models(name: str) -> None:
    with pytest.raises(ValueError, match=rf"classifier\.name.*list_models.*Found '{name}'"):
        torchvision_classifier(name)


@pytest.mark.usefixtures("no_download")
def test_unknown_torchvision_weights_are_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"classifier\.weights") as error:
        torchvision_classifier("resnet50", "IMAGENET1K_V9")
    for name in ("DEFAULT", "IMAGENET1K_V1", "IMAGENET1K_V2", "'IMAGENET1K_V9'"):
        assert name in str(error.value)


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet18", "DEFAULT"),
        ("resnet50", "IMAGENET1K_V1"),  # shorter side 256
        ("resnet50", "IMAGENET1K_V2"),  # 232
        ("efficientnet_b0", "DEFAULT"),  # bicubic
        ("vit_b_16", "IMAGENET1K_SWAG_E2E_V1"),  # 384 pixels
        ("inception_v3", "DEFAULT"),  # 299 pixels
    ],
)
def test_torchvision_preprocessing_is_that_of_the_weights(
    name: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def get_model(name: str, weights: Any = None) -> nn.Module:
        asked.append(weights)
        return nn.Identity()

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    classifier = torchvision_classifier(name, weights)
    chosen = torchvision.models.get_model_weights(name)[weights]
    assert asked == [chosen]
    assert classifier.weights == chosen.name  # what DEFAULT meant
    for size in ((301, 213), (97, 150)):
        image = picture(*size)
        pixels = classifier.preprocessing(image)
        assert pixels.dtype == torch.uint8
        seen = classifier(pixels[None].float() / 255)[0]
        torch.testing.assert_close(seen, chosen.transforms()(image), atol=1e-5, rtol=0)


def test_timm_with_random_weights_and_its_own_preprocessing() -> None:
    timm = pytest.importorskip("timm")
    classifier = timm_classifier("test_resnet", pretrained=False)
    assert classifier.name == "timm/test_resnet"
    assert classifier.weights is None
    data = timm.data.resolve_model_data_config(classifier.network)
    assert classifier(torch.rand(2, *data["input_size"])).shape == (2, 1000)
    check_timm_preprocessing(classifier, data)


def check_timm_preprocessing(classifier: FrozenClassifier, data: dict[str, Any]) -> None:
    timm: Any = pytest.importorskip("timm")
    image = picture(301, 213)
    expected = timm.data.create_transform(**data, is_training=False)(image)
    pixels = classifier.preprocessing(image).float() / 255
    seen = (pixels - classifier.mean) / classifier.std
    assert seen.shape == expected.shape
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_pct": 0.875},
        {"crop_pct": 0.95, "interpolation": "bilinear"},
        {"crop_pct": 1.0, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        {"crop_pct": 1.0, "crop_mode": "squash"},  # resized to a square, whatever the shape
        {"crop_pct": 0.9, "crop_mode": "squash"},
    ],
)
def test_timm_preprocessing_of_other_weights(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    create = timm.create_model

    def create_model(name: str, **arguments: Any) -> nn.Module:
        model: nn.Module = create(name, **arguments)
        model.pretrained_cfg.update(changes)  # type: ignore[operator, union-attr]
        return model

    monkeypatch.setattr(timm, "create_model", create_model)
    classifier = timm_classifier("test_resnet", pretrained=False)
    data = timm.data.resolve_model_data_config(classifier.network)
    assert data.items() >= changes.items()
    check_timm_preprocessing(classifier, data)


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_mode": "border"},
        {"input_size": (3, 96, 160), "crop_pct": 0.9},  # the shorter side by the larger ratio
    ],
)
def test_timm_preprocessing_that_cannot_be_done_exactly(changes: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_resnet", pretrained=False)
    model.pretrained_cfg.update(changes)
    with pytest.raises(ValueError, match=r"which can be done here exactly\. Found crop_mode="):
        FrozenClassifier.from_timm(model)


def test_a_timm_model_in_python() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit", num_classes=3)
    classifier = FrozenClassifier.from_timm(model, categories=["cat", "dog", "hen"])
    assert (classifier.name, classifier.category(1)) == ("timm/test_vit", "dog")
    size = timm.data.resolve_model_data_config(model)["input_size"]
    assert classifier(torch.rand(1, *size)).shape == (1, 3)
    imagenet = FrozenClassifier.from_timm(timm.create_model("test_resnet"))
    assert imagenet.category(281) == "tabby, tabby cat"


@pytest.mark.usefixtures("no_network")
def test_timm_without_a_network_fails_at_once() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"Found none \(no answer .*classifier\.pretrained=false"):
        timm_classifier("test_resnet.r160_in1k")


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("weights", ["ResNet18_Weights.IMAGENET1K_V1", "resnet18", None])
def test_a_torchvision_model_in_python(weights: str | None) -> None:
    enum = torchvision.models.ResNet18_Weights.DEFAULT
    network = torchvision.models.resnet18()
    classifier = FrozenClassifier.from_torchvision(weights or enum, network)
    assert (classifier.name, classifier.weights) == ("torchvision/resnet18", "IMAGENET1K_V1")
    assert classifier.category(281) == "tabby"
    assert classifier.preprocessing == Preprocessing(256, (224, 224), "bilinear")
    assert classifier.identity().sha256 == parameter_hash(network)


@pytest.mark.parametrize("weights", ["resnet19", "FCN_ResNet50_Weights.DEFAULT", "raft_small"])
def test_unknown_weights_in_python(weights: str) -> None:
    with pytest.raises(ValueError, match=r"^Expected .* Found "):
        FrozenClassifier.from_torchvision(weights)


def test_unknown_timm_model() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"classifier\.name.*Found 'resnet10x'"):
        timm_classifier("resnet10x", pretrained=False)


def test_timm_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ValueError, match=r"saliency-vae\[timm\]"):
        timm_classifier("resnet18")


MODELS = """
from torch import nn

def build(classes=3):
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, classes))

class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.layers = build(classes)

    def forward(self, images):
        return self.layers(images)

def no_module():
    return 3
"""
WEIGHTS = {"2.weight": torch.arange(36.0).view(3, 12), "2.bias": torch.tensor([1.0, 2.0, 3.0])}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory with the user's own module, on the import path."""
    name = "users_" + "".join(letter for letter in tmp_path.name if letter.isalnum())
    (tmp_path / f"{name}.py").write_text(MODELS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / name


def safetensors(state: dict[str, Tensor], path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def plain(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def nested(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"state_dict": state, "epoch": 3}, path.with_suffix(".ckpt"))
    return path.with_suffix(".ckpt")


def parallel(state: dict[str, Tensor], path: Path) -> Path:
    """As PyTorch's tutorials write a checkpoint, of a network in DataParallel."""
    torch.save({"epoch": 3, "model_state_dict": {f"module.{k}": v for k, v in state.items()}}, path)
    return path


Save = Callable[[dict[str, Tensor], Path], Path]


@pytest.mark.parametrize("save", [safetensors, plain, nested, parallel])
def test_a_module_of_ones_own(models: Path, save: Save) -> None:
    path = save(WEIGHTS, models)
    classifier = custom_classifier(
        f"{models.name}.build", path, mean=MEAN, std=STD, resize_size=20, crop_size=16
    )
    assert torch.equal(classifier.network.state_dict()["2.weight"], WEIGHTS["2.weight"])
    assert classifier.name == f"{models.name}.build"
    assert classifier.weights == path.name
    assert classifier.mean.flatten().tolist() == pytest.approx(MEAN)
    assert classifier.preprocessing == replace(Preprocessing(), resize_size=20, crop_size=(16, 16))
    sizes: dict[str, Any] = {"resize_size": [20, 30], "crop_size": [16, 24]}
    classifier = custom_classifier(f"{models.name}.build", path, **sizes)
    assert classifier.preprocessing == Preprocessing((20, 30), (16, 24))
    assert classifier(torch.rand(2, 3, 8, 8)).shape == (2, 3)


def test_a_class_with_arguments_and_a_single_logit(models: Path) -> None:
    state = {"layers.2.weight": torch.ones(1, 12), "layers.2.bias": torch.zeros(1)}
    classifier = custom_classifier(
        f"{models.name}.Net", str(plain(state, models)), {"classes": 1}, output="sigmoid"
    )
    assert classifier(torch.rand(2, 3, 8, 8)).shape == (2, 1)
    assert classifier.preprocessing == Preprocessing()


def test_categories_of_ones_own(models: Path, tmp_path: Path) -> None:
    path, names = plain(WEIGHTS, models), tmp_path / "names.txt"
    names.write_text("cat\ndog\nhen\n")
    for given in (str(names), ["cat", "dog", "hen"]):
        classifier = custom_classifier(f"{models.name}.build", path, categories=given)
        assert {name for name, _ in classifier.top(torch.rand(1, 3))[0]} == {"cat", "dog", "hen"}
    few = custom_classifier(f"{models.name}.build", path, categories=["cat"])
    with pytest.raises(ValueError, match=r"Expected 3 categories, .* Found 1\."):
        few.top(torch.rand(1, 3))
    with pytest.raises(ValueError, match=r"Expected classifier\.categories .* one name a line"):
        custom_classifier(f"{models.name}.build", path, categories=str(tmp_path / "absent.txt"))


@dataclass
class LogitsAndMore:
    """As the models of transformers return them."""

    logits: Tensor
    hidden: None = None


class Wrapped(nn.Module):
    """Returns its logits within an output."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, images: Tensor) -> LogitsAndMore:
        return LogitsAndMore(self.network(images))


def test_logits_of_an_output_of_hugging_face() -> None:
    classifier, images = FrozenClassifier(Wrapped(), name="wrapped"), torch.rand(2, 3, 8, 8)
    assert torch.equal(classifier(images), network().eval()(images))
    assert torch.equal(classifier.forward_uncompiled(images), classifier(images))


@pytest.mark.parametrize("path", ["nowhere.build", "{}.missing", "build", "", "..build"])
def test_a_wrong_import_path(models: Path, path: str) -> None:
    with pytest.raises(ValueError, match=r"classifier\.module to be an import path"):
        custom_classifier(path.format(models.name), plain(WEIGHTS, models))


def test_an_import_path_to_something_else(models: Path) -> None:
    with pytest.raises(ValueError, match=r"to give an nn\.Module.*int"):
        custom_classifier(f"{models.name}.no_module", plain(WEIGHTS, models))


def test_arguments_that_do_not_fit(models: Path) -> None:
    with pytest.raises(ValueError, match="labels"):
        custom_classifier(f"{models.name}.build", plain(WEIGHTS, models), {"labels": 3})


def test_a_missing_file(models: Path) -> None:
    with pytest.raises(ValueError, match=r"classifier\.weights to be a file.*absent\.pt"):
        custom_classifier(f"{models.name}.build", models.with_name("absent.pt"))


@pytest.mark.parametrize(
    "state",
    [
        {"2.weight": torch.zeros(3, 12)},  # one is missing
        {**WEIGHTS, "3.weight": torch.zeros(1)},  # one too many
        {**WEIGHTS, "2.bias": torch.zeros(4)},  # one of another shape
    ],
)
@pytest.mark.parametrize("save", [safetensors, plain])
def test_weights_that_do_not_fit(models: Path, state: dict[str, Tensor], save: Save) -> None:
    with pytest.raises(ValueError, match=r"classifier\.weights .* to fit") as error:
        custom_classifier(f"{models.name}.build", save(state, models))
    assert "\n" not in str(error.value)


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("import builtins; builtins.saliency_vae_was_hacked = True",)


def test_a_pickle_is_not_executed(tmp_path: Path) -> None:
    import builtins

    path = tmp_path / "evil.pt"
    torch.save({"state_dict": Evil()}, path)
    with pytest.raises(ValueError, match=r"Found neither"):
        load_state_dict(path)
    assert not hasattr(builtins, "saliency_vae_was_hacked")


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_broken_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not weights at all")
    with pytest.raises(ValueError, match=name):
        load_state_dict(tmp_path / name)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"state_dict": 3}, 5])
def test_a_file_of_something_else(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt"):
        load_state_dict(tmp_path / "other.pt")


def test_a_whole_model_is_no_state_dict_and_one_under_another_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save(network(), path)
    with pytest.raises(ValueError, match=r"torch\.save\(network\.state_dict\(\), PATH\) writes"):
        load_state_dict(path)
    torch.save({"net": network().state_dict(), "epoch": 1}, path)
    with pytest.raises(ValueError, match=r"Found dict of 'net', 'epoch'\."):
        load_state_dict(path)
