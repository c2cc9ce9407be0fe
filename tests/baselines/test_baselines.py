"""Every method against an independent, slow computation on networks of a few weights."""

import copy
import importlib.util
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae import baselines
from saliency_vae.baselines import (
    LRP,
    Blurred,
    CaptumMethod,
    CentrePrior,
    DeepLIFT,
    EdgeMagnitude,
    GradCAM,
    GuidedBackprop,
    LayerCAM,
    Method,
    Occlusion,
    Oracle,
    PerImageOptimisation,
    RandomMap,
    Reduction,
    Rise,
    ScoreCAM,
    SmoothGrad,
)
from saliency_vae.baselines.copies import shared_copy
from saliency_vae.baselines.feature_maps import feature_maps
from saliency_vae.baselines.merged import merged
from saliency_vae.baselines.rise import enlarge
from saliency_vae.baselines.target_score import (
    ScoreInParts,
    TargetProbability,
    TargetScore,
    target_of,
)
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import parameter_hash
from saliency_vae.classifiers.passes import counted_passes
from saliency_vae.classifiers.targets import Output
from saliency_vae.cli.validation import config_dir, resolve
from saliency_vae.data.batch import Batch
from saliency_vae.perturbations import Constant

HEIGHT, WIDTH = 20, 26
METHODS = Path(config_dir()) / "baselines" / "default.yaml"


class Residual(nn.Module):
    """One in-place ReLU for all, and a ReLU whose input is used twice."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.conv(self.relu(x.clone())) + x
        result: Tensor = self.relu(self.norm(x))
        return result

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).mean((-2, -1)))
        return logits


def make_classifier(output: Output = "softmax", classes: int = 4) -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Residual(classes)
        network.norm.running_mean = 0.1 * torch.randn(6)
        network.head.weight.data.mul_(10)
    mean, std = (0.4,) * 3, (0.5,) * 3
    classifier = FrozenClassifier(network, name="tiny", mean=mean, std=std, output=output)
    with torch.no_grad():  # so that more than one decision occurs
        network.head.bias.sub_(classifier(make_images()).mean(0))
    return classifier


def residual(classifier: FrozenClassifier) -> Residual:
    assert isinstance(classifier.network, Residual)
    return classifier.network


def linear_classifier(classes: int = 4) -> tuple[FrozenClassifier, Tensor]:
    """Give the classifier and its weights for images in [0, 1], (classes, 3, H, W)."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        linear = nn.Linear(3 * HEIGHT * WIDTH, classes)
    network = nn.Sequential(nn.Flatten(), linear)
    output: Output = "sigmoid" if classes == 1 else "softmax"
    classifier = FrozenClassifier(network, name="linear", std=(0.5,) * 3, output=output)
    return classifier, linear.weight.view(classes, 3, HEIGHT, WIDTH) / 0.5


def make_images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(7))


def make_batch(count: int = 3) -> Batch:
    images = make_images(count)
    return {"image": images, "mask": F.avg_pool2d(images[:, 0], 5, 1, 2) > 0.52}


def score(classifier: FrozenClassifier, images: Tensor, originals: Tensor) -> Tensor:
    """Logit of what is decided for the originals, image by image."""
    scores = []
    for image, original in zip(images, originals, strict=True):
        logits, first = classifier(image[None])[0], classifier(original[None])[0]
        softmax = classifier.output == "softmax"
        scores.append(logits[first.argmax()] if softmax else (logits * first.sign()).sum())
    return torch.stack(scores)


def gradient(classifier: FrozenClassifier, images: Tensor) -> Tensor:
    inputs = images.clone().requires_grad_()
    (result,) = torch.autograd.grad(score(classifier, inputs, images).sum(), inputs)
    return result


CLASSIFIERS: dict[str, Callable[[], FrozenClassifier]] = {
    "softmax": make_classifier,
    "sigmoid": lambda: make_classifier("sigmoid"),
    "single logit": lambda: make_classifier("sigmoid", 1),
}
classifiers = pytest.mark.parametrize("make", CLASSIFIERS.values(), ids=CLASSIFIERS.keys())
Make = Callable[[], FrozenClassifier]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


# Decisions


def test_a_single_logit_is_decided_by_its_sign() -> None:
    classifier = make_classifier("sigmoid", 1)
    logits = classifier(make_images()).squeeze(1)
    assert (logits > 0).any()
    assert (logits < 0).any()
    decision = target_of(make_batch(), classifier)
    assert torch.equal(decision.squeeze(1), logits.sign())
    found = TargetProbability(classifier)(make_images(), decision)
    close(found, torch.where(logits > 0, logits.sigmoid(), 1 - logits.sigmoid()))


def test_a_softmax_is_decided_by_the_most_probable_class() -> None:
    classifier = make_classifier("softmax")
    decision = target_of(make_batch(), classifier)
    assert decision.sum(1).tolist() == [1, 1, 1]
    probabilities = classifier.probabilities(classifier(make_images()))
    assert torch.equal(decision.argmax(1), probabilities.argmax(1))
    found = TargetProbability(classifier)(make_images(), decision)
    close(found, probabilities.amax(1))


def test_independent_labels_are_all_decided() -> None:
    classifier = make_classifier("sigmoid")
    decision = target_of(make_batch(), classifier)
    probabilities = classifier.probabilities(classifier(make_images()))
    assert torch.equal(decision > 0, probabilities > 0.5)
    found = TargetProbability(classifier)(make_images(), decision)
    close(found, torch.where(probabilities > 0.5, probabilities, 1 - probabilities).prod(1))


def test_a_target_comes_before_the_decision() -> None:
    classifier, batch = make_classifier(), make_batch()
    decision = target_of(batch, classifier)
    given: Batch = {**batch, "decision": decision.roll(1, 1)}
    assert torch.equal(target_of(given, classifier), decision.roll(1, 1))
    given["target"] = decision.roll(2, 1)
    assert torch.equal(target_of(given, classifier), decision.roll(2, 1))


@pytest.mark.parametrize("recording", [True, False])
def test_a_score_in_parts_is_the_score_of_all(recording: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))
    network(torch.rand(1, 3, 96, 64))
    classifier = FrozenClassifier(network, name="toy")
    images, target = torch.rand(100, 3, 96, 64), torch.eye(3)[torch.arange(100) % 3]
    images.requires_grad_()
    scores = []
    for kind in (TargetScore, ScoreInParts):
        with torch.set_grad_enabled(recording), counted_passes() as passes:
            scores.append(kind(classifier)(images, target))
        assert passes.number == 100
    torch.testing.assert_close(*scores)
    if recording:
        weights = torch.rand(100)
        expected, found = (torch.autograd.grad(score @ weights, images)[0] for score in scores)
        torch.testing.assert_close(found, expected)


def test_one_image_with_several_targets_goes_forward_once() -> None:
    classifier = make_classifier()
    image, target = make_images()[:1], torch.eye(classifier(make_images()).shape[1])
    images = image.expand(len(target), -1, -1, -1)
    gradients = []
    for kind, expected in ((TargetScore, len(target)), (ScoreInParts, 1)):
        leaf = images.clone().requires_grad_()
        with counted_passes() as passes:
            score = kind(classifier)(leaf, target)
        assert score.shape == (len(target),)
        assert passes.number == expected
        gradients.append(torch.autograd.grad(score.sum(), leaf)[0])
    close(gradients[1], gradients[0])


class Shared(nn.Module):
    """A convolution called twice, one whose output is used twice, and two that can be merged."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.used, self.last = (
            nn.Conv2d(3, 3, 3, padding=1, bias=bias) for bias in (True, False, True, True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(3, affine=n != 1) for n in range(5))
        for norm in self.norms:
            norm.running_mean, norm.running_var = torch.rand(3), 0.5 + torch.rand(3)
        self.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norms[0](self.first(x)).relu()
        x = self.norms[1](self.shared(x)).relu() + self.norms[2](self.shared(x))
        x = self.used(x)
        x = x + self.norms[3](x)
        return self.head(self.norms[4](self.last(x)).relu())  # type: ignore[no-any-return]


def test_only_norms_alone_after_a_convolution_are_merged() -> None:
    network, images = Shared().eval(), make_images()
    network(images)
    classifier = FrozenClassifier(network, name="toy", mean=[0.4] * 3, std=[0.2] * 3)
    found = merged(classifier, images)
    close(found(images), classifier(images))
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in c.modules()) for c in (classifier, found)]
    assert norms == [5, 3]
    assert not any(weight.requires_grad for weight in found.parameters())


class Untraceable(nn.Sequential):
    """Goes on by what it sees, which torch.fx does not trace."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)  # type: ignore[no-any-return, no-untyped-call]


def test_what_cannot_be_merged_stays_as_it_is() -> None:
    layers = nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    half = copy.deepcopy(nn.Sequential(*layers)).bfloat16()
    for network in (Untraceable(*layers), half, nn.Sequential(layers[0], *layers[2:])):
        classifier = FrozenClassifier(network, name="toy")
        assert merged(classifier, make_images()) is classifier


def test_copy_shares_weights_and_works_not_in_place() -> None:
    classifier = make_classifier()
    copied = shared_copy(classifier, in_place=False)
    assert residual(classifier).relu.inplace
    assert not residual(copied).relu.inplace
    for name, tensor in classifier.state_dict(keep_vars=True).items():
        assert copied.state_dict(keep_vars=True)[name] is tensor
    assert copied.network is not classifier.network
    close(copied(make_images()), classifier(make_images()))


# Methods of Captum


@classifiers
@pytest.mark.parametrize("reduce", ["sum", "abs", "max"])
def test_gradient(make: Make, reduce: Reduction) -> None:
    classifier, images = make(), make_images()
    by_autograd = gradient(classifier, images)
    expected = {
        "sum": by_autograd.sum(1),
        "abs": by_autograd.abs().sum(1),
        "max": by_autograd.abs().max(1).values,
    }[reduce]
    method = CaptumMethod("captum.attr.Saliency", reduce, abs=False)
    close(method({"image": images}, classifier), expected)


@classifiers
def test_input_x_gradient(make: Make) -> None:
    classifier, images = make(), make_images()
    expected = (images * gradient(classifier, images)).abs().sum(1)
    close(CaptumMethod("captum.attr.InputXGradient")({"image": images}, classifier), expected)


@pytest.mark.parametrize("classes", [1, 4])
def test_integrated_gradients_of_a_linear_model_are_input_x_weights(classes: int) -> None:
    (classifier, weights), images = linear_classifier(classes), make_images()
    logits = classifier(images)
    sign = logits.sign() if classes == 1 else torch.ones(3, 1)
    chosen = sign.view(3, 1, 1, 1) * weights[logits.argmax(1)]
    expected = (chosen * images).sum(1)
    method = CaptumMethod("captum.attr.IntegratedGradients", "sum", internal_batch_size=4)
    close(method({"image": images}, classifier), expected)


@classifiers
def test_integrated_gradients_are_complete(make: Make) -> None:
    classifier, images = make(), make_images()
    method = CaptumMethod(
        "captum.attr.IntegratedGradients", "sum", n_steps=200, internal_batch_size=50
    )
    found = method({"image": images}, classifier).sum((1, 2))
    gained = score(classifier, images, images) - score(classifier, 0 * images, images)
    torch.testing.assert_close(found, gained, rtol=0.02, atol=0.02)


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return torch.where((x > 0) & (slope > 0), slope, 0.0)


class Calling(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@classifiers
@pytest.mark.parametrize("relu", [None, F.relu, partial(F.relu, inplace=True), Tensor.relu_])
def test_guided_backprop(make: Make, relu: Callable[[Tensor], Tensor] | None) -> None:
    classifier, images = make(), make_images()
    if relu is not None:
        residual(classifier).relu = Calling(relu)  # type: ignore[assignment]
    network, inputs = residual(classifier), images.clone().requires_grad_()
    decision = target_of({"image": images}, classifier)
    first = network.stem((inputs - 0.4) / 0.5)
    second = network.norm(network.conv(_Guided.apply(first)) + first)
    logits = network.head(_Guided.apply(second).mean((-2, -1)))
    (expected,) = torch.autograd.grad((logits * decision).sum(), inputs)
    close(GuidedBackprop()({"image": images}, classifier), expected.abs().sum(1))


def test_guided_backprop_equals_captum_where_captum_is_right() -> None:
    relu = nn.ReLU(inplace=True)  # twice in the same network
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 5, 3), relu, nn.Conv2d(5, 5, 3), relu)
        network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    classifier = FrozenClassifier(network, name="plain")
    captum = CaptumMethod("captum.attr.GuidedBackprop")
    close(GuidedBackprop()(make_batch(), classifier), captum(make_batch(), classifier))


def test_guided_backprop_needs_relus() -> None:
    with pytest.raises(ValueError, match=r"Expected a classifier with ReLUs .* Found none"):
        GuidedBackprop()(make_batch(), linear_classifier()[0])


CONV, RELU, MEAN = nn.Conv2d(3, 4, 3), nn.ReLU(True), nn.AdaptiveAvgPool2d(1)
FLATTEN = nn.Flatten()


@classifiers
@pytest.mark.parametrize("layer", [None, "stem", "relu"])
def test_grad_cam(make: Make, layer: str | None) -> None:
    classifier, images = make(), make_images()
    network = residual(classifier)
    decision = target_of({"image": images}, classifier)
    inputs = ((images - 0.4) / 0.5).requires_grad_()
    stem = network.stem(inputs)
    last = network.norm(network.conv(stem.relu()) + stem).relu()
    total = (network.head(last.mean((-2, -1))) * decision).sum()
    maps = stem if layer == "stem" else last
    (slopes,) = torch.autograd.grad(total, maps)
    weights = slopes.sum((-2, -1)) / slopes[0, 0].numel()
    cam = torch.einsum("bc,bchw->bhw", weights, maps).clamp(min=0)[:, None]
    expected = F.interpolate(cam, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[:, 0]
    close(GradCAM(layer)({"image": images}, classifier), expected.detach())


def torchvision_vit() -> nn.Module:
    network: nn.Module = torchvision.models.VisionTransformer(64, 16, 2, 2, 8, 16)
    nn.init.normal_(network.get_parameter("heads.head.weight"))  # zero by default
    return network


def timm_network(name: str, **arguments: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    network: nn.Module = timm.create_model(name, img_size=64, **arguments)
    return network


@pytest.mark.parametrize(
    ("make_network", "layer"),
    [
        (torchvision.models.resnet18, "layer4"),
        (torchvision.models.convnext_tiny, "features.7"),  # its norms see channels last
        (lambda: nn.Sequential(CONV, RELU, MEAN, nn.Conv2d(4, 2, 1), FLATTEN), "1"),
        # as in VGG
        (lambda: nn.Sequential(CONV, RELU, nn.MaxPool2d(2), MEAN, FLATTEN, nn.Linear(4, 2)), "1"),
        (torchvision_vit, "encoder.layers.encoder_layer_1.ln_1"),
        (lambda: timm_network("vit_tiny_patch16_224"), "blocks.11.norm1"),
        (lambda: timm_network("vit_tiny_patch16_224", global_pool="avg"), "blocks.11.norm2"),
        (lambda: timm_network("swin_tiny_patch4_window7_224"), "norm"),
    ],
)
def test_the_last_feature_maps_are_found(make_network: Callable[[], nn.Module], layer: str) -> None:
    classifier, images = FrozenClassifier(make_network(), name="any"), torch.rand(2, 3, 64, 64)
    target = target_of({"image": images}, classifier)
    found = feature_maps(images, target, classifier)
    for one, expected in zip(found, feature_maps(images, target, classifier, layer), strict=True):
        close(one, expected)
        assert one.any()
        assert one.ndim == 4


def test_grad_cam_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"Expected layer .* one of stem.* Found 'layer9'"):
        GradCAM("layer9")(make_batch(), make_classifier())
    with pytest.raises(ValueError, match=r"Expected a classifier with feature maps .* Found none"):
        GradCAM()(make_batch(), linear_classifier()[0])


@pytest.mark.parametrize(
    ("baseline", "kind"), [(None, "single logit"), (None, "softmax"), (Constant(), "sigmoid")]
)
def test_occlusion(baseline: nn.Module | None, kind: str) -> None:
    classifier, images = CLASSIFIERS[kind](), make_images()
    window, stride = 6, 4  # of the shorter side of 20
    sums, counts = torch.zeros(3, HEIGHT, WIDTH), torch.zeros(HEIGHT, WIDTH)
    pixel = torch.arange(26.0)
    kernel = torch.exp(-((pixel[:, None] - pixel) ** 2) / (2 * (20 / 6) ** 2))
    rows, columns = kernel[:HEIGHT, :HEIGHT], kernel
    blurred = (rows / rows.sum(1)[:, None]) @ images @ (columns / columns.sum(1)[:, None]).T
    for i in range(math.ceil((HEIGHT - window) / stride) + 1):
        for j in range(math.ceil((WIDTH - window) / stride) + 1):
            where = (slice(i * stride, i * stride + window), slice(j * stride, j * stride + window))
            hidden = images.clone()
            hidden[:, :, *where] = blurred[:, :, *where] if baseline is None else 0
            loss = score(classifier, images, images) - score(classifier, hidden, images)
            sums[:, *where] += loss.detach()[:, None, None]
            counts[where] += 1
    assert counts.min() > 0
    method = Occlusion(window=0.3, stride=0.2, baseline=baseline)
    torch.testing.assert_close(
        method({"image": images}, classifier), sums / counts, rtol=1e-3, atol=2e-5
    )


# Methods of this package


def test_rise_masks_are_enlarged_grids_cut_out_at_a_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = (torch.rand(30, 4, 4, generator=generator) < 0.5).float()
    shifts = torch.rand(30, 2, generator=generator)
    found = enlarge(cells, shifts, HEIGHT, WIDTH)
    cell_height, cell_width = 5, 7  # 20 / 4, and 26 / 4 rounded up
    for mask, grid, (down, right) in zip(found, cells, shifts.tolist(), strict=True):
        size = 5 * cell_height, 5 * cell_width
        whole = F.interpolate(grid[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        top, left = int(down * cell_height), int(right * cell_width)
        close(mask, whole[top : top + HEIGHT, left : left + WIDTH])


@classifiers
def test_rise_is_the_papers_formula(make: Make) -> None:
    classifier, images = make(), make_images()
    method = Rise(masks=40, grid=4, probability=0.4, seed=5)
    generator = torch.Generator().manual_seed(5)
    cells = (torch.rand(40, 4, 4, generator=generator) < 0.4).float()
    masks = enlarge(cells, torch.rand(40, 2, generator=generator), HEIGHT, WIDTH)
    found = method({"image": images}, classifier)
    for image, saliency in zip(images, found, strict=True):
        logits = classifier(image[None])
        expected = torch.zeros(HEIGHT, WIDTH)
        for mask in masks:
            masked = mask * (image - 0.4) + 0.4  # the mean colour is 0 after normalisation
            probabilities = classifier.probabilities(classifier(masked[None]))[0]
            if classifier.output == "sigmoid":
                probability = torch.where(logits[0] > 0, probabilities, 1 - probabilities).prod()
            else:
                probability = probabilities[logits.argmax()]
            expected += probability * mask / (0.4 * 40)
        close(saliency, expected)


@pytest.mark.parametrize("at_once", [1, 64])
def test_rise_does_not_depend_on_the_batch(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Rise(masks=30)(make_batch(), make_classifier())
    monkeypatch.setattr("saliency_vae.metrics.views._MOST", at_once)
    parts = [Rise(masks=30)({"image": image[None]}, make_classifier()) for image in make_images()]
    close(torch.cat(parts), whole)


def test_rise_masks_keep_every_pixel_equally_often() -> None:
    generator = torch.Generator().manual_seed(0)
    cells = (torch.rand(20_000, 7, 7, generator=generator) < 0.5).float()
    masks = enlarge(cells, torch.rand(20_000, 2, generator=generator), 15, 23)
    assert (masks.mean(0) - 0.5).abs().max() < 0.015
    assert masks.min() >= 0
    assert masks.max() <= 1


def test_rise_holds_only_some_masks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saliency_vae.metrics.views._MOST", 10)
    sizes: list[int] = []
    classifier = make_classifier()
    classifier.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    Rise(masks=50)(make_batch(), classifier)
    assert max(sizes) <= 10


# Controls


def test_random_map_depends_on_image_and_seed_alone() -> None:
    batch, classifier = make_batch(), make_classifier()
    whole = RandomMap()(batch, classifier)
    assert torch.equal(RandomMap()({"image": batch["image"][1:2]}, classifier)[0], whole[1])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(RandomMap(1)(batch, classifier), whole)


def test_centre_prior() -> None:
    found = CentrePrior()(make_batch(), make_classifier())
    for row, column in ((0, 0), (9, 12), (19, 3)):
        expected = -math.hypot(row - 9.5, column - 12.5)
        assert found[2, row, column].item() == pytest.approx(expected)


def test_edge_magnitude() -> None:
    step = torch.zeros(1, 3, HEIGHT, WIDTH)
    step[..., 10:] = 0.5
    expected = torch.zeros(1, HEIGHT, WIDTH)
    expected[..., 9:11] = 2.0  # 4 x the step, on both of its sides; none at the border
    close(EdgeMagnitude()({"image": step}, make_classifier()), expected)
    transposed = EdgeMagnitude()({"image": step.mT}, make_classifier())
    close(transposed, expected.mT)


def test_blurred() -> None:
    point = torch.zeros(1, 61, 61)
    point[0, 30, 30] = 1
    found = Blurred(lambda batch, classifier: point, sigma=3 / 61)(make_batch(), make_classifier())
    distance = torch.hypot(*torch.meshgrid(*2 * [torch.arange(61.0) - 30], indexing="ij"))
    expected = torch.exp(-(distance**2) / 18) / (2 * math.pi * 9)
    torch.testing.assert_close(found[0], expected, rtol=1e-2, atol=1e-6)


def test_oracle_ranks_the_mask_first_and_every_pixel_near_it() -> None:
    batch = make_batch()
    found = Oracle()(batch, make_classifier())
    for saliency, mask in zip(found, batch["mask"], strict=True):
        assert 0 < mask.sum() < mask.numel()
        assert saliency[mask].min() > 1 >= saliency[~mask].max()
    square: Batch = {"image": make_images(1), "mask": torch.zeros(1, HEIGHT, WIDTH) > 0}
    square["mask"][0, 5:10, 5:10] = True
    saliency = Oracle(0.05)(square, make_classifier())[0]
    assert saliency.argmax() == 7 * WIDTH + 7
    assert saliency[7, 10] > saliency[7, 11] > saliency[7, 12]


def test_oracle_needs_masks() -> None:
    with pytest.raises(ValueError, match=r"Expected data with true masks .* Found \['image'\]"):
        Oracle()({"image": make_images()}, make_classifier())


# All of them


def all_methods() -> dict[str, Method]:
    nodes = resolve(OmegaConf.create({"baselines": OmegaConf.load(METHODS)}))["baselines"]
    nodes["rise"]["masks"] = 20
    nodes["occlusion"]["stride"] = 0.125
    nodes["per_image"]["steps"] = 2
    nodes["kernel_shap"]["samples"] = 40
    nodes["shap_bpt"]["evaluations"] = 20
    nodes["optimised_mask"]["steps"] = 2
    nodes["region_search"]["segments"] = 6
    if importlib.util.find_spec("shap_bpt") is None:
        del nodes["shap_bpt"]
    return {name: instantiate(node, _convert_="all") for name, node in nodes.items()}


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        ("softmax", torch.no_grad),
        ("sigmoid", torch.inference_mode),
        ("single logit", torch.inference_mode),
    ],
)
def test_every_method_explains_and_leaves_the_classifier_as_it_was(
    kind: str, context: Callable[[], Any]
) -> None:
    classifier, batch = CLASSIFIERS[kind](), make_batch()
    weights, before = parameter_hash(classifier.network), classifier(batch["image"])
    images, state = batch["image"].clone(), torch.get_rng_state()
    for name, method in all_methods().items():
        with context():
            maps = method(batch, classifier)
            again = method(batch, classifier)
        assert maps.shape == (3, HEIGHT, WIDTH), name
        assert maps.dtype == torch.float32, name
        assert not maps.requires_grad, name
        assert maps.isfinite().all(), name
        assert all(len(saliency.unique()) > 1 for saliency in maps), name
        assert torch.equal(maps, again), name
        assert torch.equal(batch["image"], images), name
        assert not batch["image"].requires_grad, name
    assert torch.equal(torch.get_rng_state(), state)
    assert parameter_hash(classifier.network) == weights
    assert torch.equal(classifier(images), before)
    assert not classifier.training
    assert residual(classifier).relu.inplace
    for module in classifier.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not module._backward_pre_hooks
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_classifiers_of_any_precision_and_images_with_a_gradient(dtype: torch.dtype) -> None:
    batch = make_batch()
    batch["image"].requires_grad_()
    for name, method in all_methods().items():
        maps = method(batch, make_classifier().to(dtype))
        assert maps.dtype == torch.float32, name
        assert not maps.requires_grad, name
        assert maps.isfinite().all(), name
        if dtype == torch.float64:
            expected = method(make_batch(), make_classifier())
            torch.testing.assert_close(maps, expected, rtol=1e-2, atol=5e-3, msg=name)


class Stating(Residual):
    """Works in place and goes on with the input."""

    statement: Callable[[Tensor], object]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        self.statement(x)
        x = self.conv(x)
        self.statement(x)
        logits: Tensor = self.head(x.mean((-2, -1)))
        return logits


@pytest.mark.parametrize("kind", ["module", "function"])
def test_what_is_altered_in_place_is_explained_or_refused(kind: str) -> None:
    network = Stating(4)
    network.statement = network.relu if kind == "module" else partial(F.relu, inplace=True)
    layers = network.stem, RELU, network.conv, RELU, MEAN, FLATTEN, network.head
    classifier = FrozenClassifier(network, name="stating")
    usual = FrozenClassifier(nn.Sequential(*layers), name="usual")
    for method in (GradCAM(), LayerCAM(), ScoreCAM(), GuidedBackprop()):
        close(method(make_batch(), classifier), method(make_batch(), usual))
    refusing: list[Method] = [DeepLIFT(), LRP()]
    if kind == "module":
        refusing.append(CaptumMethod("captum.attr.GuidedBackprop"))
    for refuser in refusing:
        refuser(make_batch(), usual)
        with pytest.raises(ValueError, match=r"without working in place\. Found other logits"):
            refuser(make_batch(), classifier)


def test_seeds_change_the_noise() -> None:
    for make_method in (
        lambda seed: SmoothGrad(2, seed=seed),
        lambda seed: Rise(masks=10, seed=seed),
        lambda seed: PerImageOptimisation(steps=2, seed=seed),
    ):
        one, other = (make_method(seed)(make_batch(), make_classifier()) for seed in (0, 1))
        assert not torch.equal(one, other)


# Methods of the user


def test_a_method_of_captum_by_import_path() -> None:
    """DeepLIFT of a linear model is input x weights; its settings reach class and attribute."""
    (classifier, weights), images = linear_classifier(), make_images()
    weights = weights[classifier(images).argmax(1)]
    deep_lift = CaptumMethod("captum.attr.DeepLift", "sum", multiply_by_inputs=False)
    close(deep_lift({"image": images}, classifier), weights.sum(1).detach())
    deep_lift = CaptumMethod("captum.attr.DeepLift", "sum", baselines=0.2)
    close(deep_lift({"image": images}, classifier), ((images - 0.2) * weights).sum(1).detach())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"attribution": "captum.attr.DeepLyft"},
            r"such as captum\.attr\.DeepLift\. Found captum",
        ),
        ({"attribution": "torch.nn.Linear"}, r"Expected a class with Captum's attribute"),
        (
            {"attribution": "captum.attr.Saliency", "reduce": "mean"},
            r"sum, abs, max\. Found 'mean'",
        ),
        ({"attribution": "captum.attr.Saliency", "steps": 9}, r"among abs\. Found steps"),
        ({"attribution": "captum.attr.Saliency", "target": 3}, r"Found target"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        CaptumMethod(**arguments)
    assert "\n" not in str(caught.value)


class Users:
    """A user's own method in Captum's shape: the decision's score, at every pixel or once."""

    def __init__(self, forward_func: nn.Module, everywhere: bool = True) -> None:
        self.score = forward_func
        self.everywhere = everywhere

    def attribute(self, inputs: Tensor, additional_forward_args: Tensor, scale: float) -> Tensor:
        scores: Tensor = scale * self.score(inputs, additional_forward_args)
        return scores.view(-1, 1, 1, 1).expand_as(inputs) if self.everywhere else scores


def test_the_users_own_method_by_import_path() -> None:
    classifier, images = make_classifier(), make_images()
    found = CaptumMethod(f"{__name__}.Users", scale=2.0, reduce="sum")(make_batch(), classifier)
    expected = 6 * score(classifier, images, images)
    close(found, expected.view(3, 1, 1).expand_as(found))
    with pytest.raises(ValueError, match=r"Expected Users to attribute to the pixels, .* \(3,\)\."):
        CaptumMethod(f"{__name__}.Users", scale=2.0, everywhere=False)(make_batch(), classifier)


@pytest.mark.parametrize(
    "make_method",
    [lambda: CaptumMethod("captum.attr.Saliency"), Occlusion],
    ids=["captum", "occlusion"],
)
def test_missing_captum_is_one_line(
    make_method: Callable[[], Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "saliency_vae.runtime.extras.find_spec",
        lambda name: None if name == "captum" else find(name),
    )
    with pytest.raises(ValueError, match=r"pip install 'saliency-vae\[captum\]'\.$") as caught:
        make_method()
    assert "\n" not in str(caught.value)


def test_captum_is_imported_only_when_asked_for() -> None:
    for path in Path(baselines.__path__[0]).glob("*.py"):
        assert not re.search(r"^\s*(import|from) captum", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize(
    "make_method",
    [
        lambda: Occlusion(window=0.1, stride=0.2),
        lambda: Rise(masks=0),
        lambda: Rise(probability=1.0),
        lambda: Blurred(CentrePrior(), sigma=0.0),
    ],
)
def test_values_out_of_range_are_one_line(make_method: Callable[[], Method]) -> None:
    with pytest.raises(ValueError, match=r"^Expected .* Found .*\.$"):
        make_method()
