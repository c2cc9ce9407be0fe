"""The newer rivals, each against a slow textbook computation or a toy whose answer is known."""

import importlib.util
import math
from collections.abc import Callable
from importlib.machinery import ModuleSpec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_linear_bn_eval

from saliency_vae.baselines import (
    LRP,
    CaptumMethod,
    DeepLIFT,
    GradCAM,
    GradientSHAP,
    KernelSHAP,
    LayerCAM,
    Method,
    OptimisedMask,
    PerImageOptimisation,
    RegionSearch,
    ScoreCAM,
    ShapBPT,
)
from saliency_vae.baselines.optimised_mask import area_penalty, smoothly_enlarged
from saliency_vae.baselines.per_image import _Views
from saliency_vae.baselines.segments import slic_segments
from saliency_vae.baselines.target_score import target_of
from saliency_vae.baselines.traced import one_module_per_call
from saliency_vae.classifiers import FrozenClassifier, counted_passes
from saliency_vae.classifiers.builders import torchvision_classifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.data import Batch
from saliency_vae.perturbations import Constant, blurred
from tests.baselines.test_baselines import (
    CLASSIFIERS,
    HEIGHT,
    WIDTH,
    Make,
    Residual,
    classifiers,
    close,
    linear_classifier,
    make_batch,
    make_classifier,
    make_images,
    residual,
    score,
)

needs_shap_bpt = pytest.mark.skipif(
    importlib.util.find_spec("shap_bpt") is None, reason="needs the optional extra shap-bpt"
)
RIVALS: dict[str, Callable[[], Method]] = {
    "grad_cam": GradCAM,
    "layer_cam": LayerCAM,
    "score_cam": ScoreCAM,
    "deep_lift": DeepLIFT,
    "gradient_shap": lambda: GradientSHAP(samples=6),
    "lrp": LRP,
    "kernel_shap": lambda: KernelSHAP(segments=30, samples=100),
    "shap_bpt": lambda: ShapBPT(evaluations=40),
    "optimised_mask": lambda: OptimisedMask(areas=(0.1, 0.3), steps=40, grid=8, lr=0.1),
    "region_search": lambda: RegionSearch(segments=30),
    "per_image": lambda: PerImageOptimisation(steps=25, grid=10),
}
rivals = pytest.mark.parametrize(
    "make_method",
    [
        pytest.param(make, id=name, marks=[needs_shap_bpt] if name == "shap_bpt" else [])
        for name, make in RIVALS.items()
    ],
)


# All of them


class RedAndGreen(nn.Sequential):
    """Class 0 is something red, class 1 something green, and class 2 neither."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.append(nn.Linear(2, 3))
        colour = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]])
        centre = torch.zeros(3, 3)
        centre[1, 1] = 1
        self.load_state_dict(
            {
                "0.weight": colour[:, :, None, None] * centre,
                "0.bias": torch.tensor([-0.4, -0.4]),  # a blurred object does not count
                "4.weight": torch.tensor([[200.0, 0.0], [0.0, 200.0], [0.0, 0.0]]),
                "4.bias": torch.tensor([0.0, 0.0, 2.0]),
            }
        )


RED, GREEN = (slice(4, 10), slice(3, 10)), (slice(13, 19), slice(15, 22))


def two_objects() -> Tensor:
    image = 0.4 + 0.02 * torch.randn(
        1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)
    )
    for channel, (rows, columns) in enumerate((RED, GREEN)):
        image[0, :, rows, columns] = 0.1
        image[0, channel, rows, columns] = 0.9
    return image


@rivals
@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_each_object_is_found_by_the_question_about_it(
    make_method: Callable[[], Method], output: Output
) -> None:
    classifier = FrozenClassifier(RedAndGreen(), name="colours", output=output)
    method = make_method()
    for asked_about, here, there in ((0, RED, GREEN), (1, GREEN, RED)):
        target = F.one_hot(torch.tensor([asked_about]), 3).float()
        saliency = method({"image": two_objects(), "target": target}, classifier)[0]
        rows, columns = here
        inside = saliency[rows, columns].mean()
        assert inside > saliency[there].mean()
        assert inside > saliency.mean()
        peak = divmod(int(saliency.argmax()), WIDTH)
        assert rows.start - 1 <= peak[0] <= rows.stop
        assert columns.start - 1 <= peak[1] <= columns.stop


@rivals
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_an_image_has_the_same_map_in_any_batch(
    make_method: Callable[[], Method], kind: str
) -> None:
    classifier, images = CLASSIFIERS[kind](), make_images()
    method = make_method()
    together = method({"image": images}, classifier)
    assert together.shape == images[:, 0].shape
    for image, expected in zip(images, together, strict=True):
        alone = method({"image": image[None]}, classifier)[0]
        # An optimiser adds up rounding errors, which the size of a batch changes.
        torch.testing.assert_close(alone, expected, rtol=1e-2, atol=5e-3)


@rivals
def test_a_known_decision_is_not_asked_again(make_method: Callable[[], Method]) -> None:
    classifier, images = make_classifier(), make_images(1)
    method = make_method()
    with counted_passes() as asking:
        expected = method({"image": images}, classifier)
    with counted_passes() as known:
        decision = classifier.decide(classifier(images))
        found = method({"image": images, "decision": decision}, classifier)
    assert known.number == asking.number
    close(found, expected)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (GradCAM(), 1),
        (LayerCAM(), 1),
        (ScoreCAM(), 1 + 6),  # feature maps
        (DeepLIFT(), 2),
        (GradientSHAP(samples=7), 7),
        (LRP(), 1),
        (OptimisedMask(areas=(0.1, 0.3), steps=5), 10),
        (PerImageOptimisation(steps=5), 1 + 10),
    ],
)
def test_passes(method: Method, expected: int) -> None:
    classifier, images = make_classifier(), make_images(1)
    decision = classifier.decide(classifier(images))
    with counted_passes() as passes:
        method({"image": images, "decision": decision}, classifier)
    assert passes.number == expected


@pytest.mark.parametrize(
    ("make_method", "package", "extra"),
    [
        (DeepLIFT, "captum", "captum"),
        (KernelSHAP, "skimage", "rivals"),
        (RegionSearch, "skimage", "rivals"),
        (LRP, "zennit", "rivals"),
        (ShapBPT, "shap_bpt", "shap-bpt"),
    ],
)
def test_a_missing_package_is_one_line(
    make_method: Callable[[], Method],
    package: str,
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    find = importlib.util.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == package else find(name)

    monkeypatch.setattr("saliency_vae.runtime.extras.find_spec", without)
    with pytest.raises(ValueError, match=rf"Expected the optional extra {extra} ") as caught:
        make_method()
    assert str(caught.value).endswith(f"pip install 'saliency-vae[{extra}]'.")


@pytest.mark.parametrize(
    "make_method",
    [
        lambda: GradientSHAP(samples=0),
        lambda: LRP(gamma=-1),
        lambda: KernelSHAP(samples=0),
        lambda: OptimisedMask(areas=(0.5, 1.0)),
        lambda: OptimisedMask(steps=0),
        lambda: RegionSearch(segments=0),
        lambda: PerImageOptimisation(steps=0),
    ],
)
def test_values_out_of_range_are_one_line(make_method: Callable[[], Method]) -> None:
    with pytest.raises(ValueError, match=r"^Expected .* Found .*\.$"):
        make_method()


# Class activation maps


@classifiers
def test_layer_cam(make: Make) -> None:
    classifier, images = make(), make_images()
    network = residual(classifier)
    decision = target_of({"image": images}, classifier)
    inputs = ((images - 0.4) / 0.5).requires_grad_()
    maps = network.features(inputs)
    (slopes,) = torch.autograd.grad((network.head(maps.mean((-2, -1))) * decision).sum(), maps)
    cam = torch.zeros(3, *maps.shape[-2:])
    for channel in range(6):
        cam += slopes[:, channel].clamp(min=0) * maps[:, channel].detach()
    expected = F.interpolate(cam[:, None], (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    close(LayerCAM()({"image": images}, classifier), expected[:, 0])


@classifiers
def test_score_cam(make: Make) -> None:
    classifier, images = make(), make_images(2)
    network = residual(classifier)
    found = ScoreCAM()({"image": images}, classifier)
    for saliency, image in zip(found, images, strict=True):
        maps = network.features((image[None] - 0.4) / 0.5)[0]
        gains = []
        for one in maps:
            mask = F.interpolate(one[None, None], (HEIGHT, WIDTH), mode="bilinear")[0]
            mask = (mask - mask.min()) / (mask.max() - mask.min())
            seen = 0.4 + mask * (image - 0.4)
            gains.append(score(classifier, seen[None], image[None]).exp().item())
        cam = sum(gain / sum(gains) * one for gain, one in zip(gains, maps, strict=True))
        assert isinstance(cam, Tensor)
        expected = F.interpolate(cam.clamp(min=0)[None, None], (HEIGHT, WIDTH), mode="bilinear")
        close(saliency, expected[0, 0])


def test_a_constant_feature_map_has_no_weight_in_score_cam() -> None:
    classifier, images = make_classifier(), make_images(1)
    norm = residual(classifier).norm
    with torch.no_grad():
        norm.weight[0], norm.bias[0] = 0, 9  # as high as no other map is
    without = make_classifier()
    with torch.no_grad():
        residual(without).load_state_dict(residual(classifier).state_dict())
        residual(without).norm.bias[0] = -9  # which the ReLU makes 0
        residual(without).head.bias.add_(9 * residual(without).head.weight[:, 0])
    batch: Batch = {"image": images, "decision": classifier.decide(classifier(images))}
    close(ScoreCAM()(batch, classifier), ScoreCAM()(batch, without))
    norm.weight.data.zero_()
    assert not ScoreCAM()(batch, classifier).any()


# Copies whose modules are called once


class Rich(nn.Module):
    """Shared activation, residual sum, concatenation, and a mean by method."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.branch = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.activation = activation
        self.last = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm(self.stem(x)))
        y = self.activation(self.branch(x)) + x
        z = self.last(torch.cat([F.relu(y), x], 1))
        logits: Tensor = self.head(z.relu().mean((2, 3)))
        return logits


def rich_classifier(activation: nn.Module, *, biased: bool = True) -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Rich(activation)
        for norm in (network.norm, network.last):
            assert norm.running_var is not None
            norm.running_var.uniform_(0.5, 2)
            if biased:
                nn.init.normal_(norm.bias)
        nn.init.normal_(network.stem.weight)
    return FrozenClassifier(network, name="rich", mean=(0.3,) * 3, std=(0.1,) * 3)


@pytest.mark.parametrize(
    "network",
    [
        Residual(3).eval(),
        Rich(nn.ReLU6(inplace=True)).eval(),
        torchvision_classifier("resnet18", weights=None).network,
        torchvision_classifier("mobilenet_v2", weights=None).network,
    ],
    ids=lambda network: type(network).__name__,
)
def test_every_module_of_the_copy_is_called_once(network: nn.Module) -> None:
    activations = (nn.ReLU, nn.ReLU6, nn.MaxPool2d)
    copied = one_module_per_call(network, activations, method="this")
    calls: list[nn.Module] = []
    for module in copied.modules():
        if isinstance(module, activations):
            module.register_forward_hook(lambda module, *_: calls.append(module))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        close(copied(images), network(images))
    assert len(calls) == len(set(calls)) >= 2


def test_the_copy_shares_weights_and_works_with_convolutions_of_another_package() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    copied = one_module_per_call(network, (nn.ReLU6,), method="this")
    pointers = {p.data_ptr() for p in network.parameters()}
    assert {p.data_ptr() for p in copied.parameters()} == pointers
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        close(copied(images), network(images))


BATCH_NORM = nn.BatchNorm2d(2, track_running_stats=False)


@pytest.mark.parametrize(("method", "name"), [(DeepLIFT(), "DeepLIFT"), (LRP(), "LRP")])
def test_what_no_rule_covers_is_refused_in_one_line(method: Method, name: str) -> None:
    class Squeezing(Residual):
        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            logits: Tensor = self.head((x * x.mean((2, 3), keepdim=True)).mean((2, 3)))
            return logits

    class Branching(Residual):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return super().forward(x)
            return super().forward(-x)

    for network, found in (
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.SiLU(), nn.Flatten(), nn.LazyLinear(2)), "SiLU"),
        (Squeezing(2), "mul"),
        (Branching(2), "symbolically traced"),
        (nn.Sequential(nn.Conv2d(3, 2, 3), BATCH_NORM), "BatchNorm2d without running statistics"),
    ):
        network(make_images())
        classifier = FrozenClassifier(network, name="other")
        with pytest.raises(ValueError, match=rf"^Expected a classifier .* {name}\. .*{found}") as e:
            method(make_batch(), classifier)
        assert "\n" not in str(e.value)


# DeepLIFT


def deep_lift(
    network: Callable[[Tensor, Callable[[str, Tensor], Tensor]], Tensor],
    image: Tensor,
    baseline: Tensor,
    target: Tensor,
) -> Tensor:
    """Slopes of all activations are fixed to those between baseline and image; then the gradient.

    Args:
        network: The network as a function of its input and of an activation with a name.
        image: Normalised image (1, 3, H, W).
        baseline: Normalised baseline image.
        target: Weights of the logits, (1, classes).
    """
    kinds: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "relu6": F.relu6}
    seen: list[Tensor] = []

    def record(kind: str, x: Tensor) -> Tensor:
        seen.append(x)
        return kinds[kind](x)

    for inputs in (image, baseline):
        network(inputs, record)
    places = zip(seen[: len(seen) // 2], seen[len(seen) // 2 :], strict=True)

    def linear(kind: str, x: Tensor) -> Tensor:
        at_image, at_baseline = next(places)
        change = at_image - at_baseline
        slope = (kinds[kind](at_image) - kinds[kind](at_baseline)) / change
        beyond = {"relu": math.inf, "relu6": 6}[kind]
        flat = (at_image > 0) & (at_image < beyond)  # the gradient, where nothing changes
        return torch.where(change.abs() < 1e-6, flat.float(), slope).detach() * x

    inputs = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((network(inputs, linear) * target).sum(), inputs)
    return gradient * (image - baseline)


@pytest.mark.parametrize("baseline", [None, Constant()])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_deep_lift_with_a_shared_activation_and_a_residual_sum(
    baseline: nn.Module | None, kind: str
) -> None:
    classifier, images = CLASSIFIERS[kind](), make_images(2)
    network = residual(classifier)
    target = target_of({"image": images}, classifier)

    def run(x: Tensor, activation: Callable[[str, Tensor], Tensor]) -> Tensor:
        x = network.stem(x)
        x = network.conv(activation("relu", x)) + x
        logits: Tensor = network.head(activation("relu", network.norm(x)).mean((2, 3)))
        return logits

    baselines = blurred(images) if baseline is None else 0 * images
    found = DeepLIFT(baseline)({"image": images}, classifier)
    for saliency, image, behind, one in zip(found, images, baselines, target, strict=True):
        expected = deep_lift(run, (image[None] - 0.4) / 0.5, (behind[None] - 0.4) / 0.5, one)
        torch.testing.assert_close(saliency, expected[0].abs().sum(0), rtol=1e-3, atol=1e-4)


def test_deep_lift_with_relu6_and_functions() -> None:
    classifier, images = rich_classifier(nn.ReLU6()), make_images(1)
    network = classifier.network
    assert isinstance(network, Rich)

    def run(x: Tensor, activation: Callable[[str, Tensor], Tensor]) -> Tensor:
        x = activation("relu6", network.norm(network.stem(x)))
        y = activation("relu6", network.branch(x)) + x
        z = network.last(torch.cat([activation("relu", y), x], 1))
        logits: Tensor = network.head(activation("relu", z).mean((2, 3)))
        return logits

    image, baseline = ((one - 0.3) / 0.1 for one in (images, blurred(images)))
    expected = deep_lift(run, image, baseline, target_of({"image": images}, classifier))
    assert (network.norm(network.stem(image)) > 6).any()  # so that the upper bend counts
    found = DeepLIFT()({"image": images}, classifier)
    torch.testing.assert_close(found, expected.abs().sum(1), rtol=1e-3, atol=1e-4)


def test_deep_lift_equals_captum_where_every_module_is_called_once() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.Tanh()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
        )
    classifier = FrozenClassifier(network, name="plain")
    captum = CaptumMethod("captum.attr.DeepLift")  # from a black image
    close(DeepLIFT(Constant())(make_batch(), classifier), captum(make_batch(), classifier))


# GradientSHAP


@pytest.mark.parametrize("baseline", [None, Constant()])
@classifiers
def test_gradient_shap(make: Make, baseline: nn.Module | None) -> None:
    classifier, images = make(), make_images(2)
    method = GradientSHAP(samples=4, stddev=0.1, baseline=baseline, seed=5)
    generator, total = torch.Generator().manual_seed(5), torch.zeros_like(images)
    behind = blurred(images) if baseline is None else 0 * images
    for _ in range(4):
        noisy = images + 0.1 * torch.randn(3, HEIGHT, WIDTH, generator=generator)
        share = torch.rand((), generator=generator)
        point = ((1 - share) * behind + share * noisy).requires_grad_()
        (slope,) = torch.autograd.grad(score(classifier, point, images).sum(), point)
        total += slope * (noisy - behind) / 4
    torch.testing.assert_close(
        method({"image": images}, classifier), total.abs().sum(1), rtol=1e-3, atol=1e-4
    )


def test_gradient_shap_of_a_linear_model_is_weights_x_difference() -> None:
    (classifier, weights), images = linear_classifier(), make_images()
    chosen = weights[classifier(images).argmax(1)]
    expected = (chosen * (images - blurred(images))).abs().sum(1).detach()
    method = GradientSHAP(samples=3, stddev=0)
    close(method({"image": images}, classifier), expected)


# LRP


def test_lrp_of_a_linear_model_is_input_x_weights() -> None:
    (classifier, weights), images = linear_classifier(), make_images()
    normalised = images / 0.5  # its mean is 0
    target = -target_of({"image": images}, classifier)
    chosen = torch.einsum("bc,cxhw->bxhw", target, 0.5 * weights).detach()
    found = LRP()({"image": images, "target": target}, classifier)
    torch.testing.assert_close(found, (normalised * chosen).sum(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.ReLU6()])
def test_lrp_conserves_the_logit(activation: nn.Module) -> None:
    """Without biases nothing is lost: shared activations, sums and poolings included."""
    classifier, images = rich_classifier(activation, biased=False), make_images()
    network = classifier.network
    assert isinstance(network, Rich)
    stem = network.stem.weight
    with torch.no_grad():
        stem.sub_(stem.mean((1, 2, 3), keepdim=True))
    logits = classifier(images)
    for chosen in range(3):
        target = F.one_hot(torch.full((3,), chosen), 3).float()
        found = LRP()({"image": images, "target": target}, classifier).sum((1, 2))
        torch.testing.assert_close(found, logits[:, chosen], rtol=1e-3, atol=1e-3)


def test_lrp_merges_batch_normalisation_of_either_kind() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv, linear, last = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(5, 2)
        plain, norm = nn.BatchNorm2d(4, affine=False), nn.BatchNorm1d(5)
        for one in (plain, norm):
            assert one.running_var is not None
            one.running_var.uniform_(0.5, 2)
    norm.bias.data.fill_(0.1)
    affine = nn.BatchNorm2d(4)
    affine.load_state_dict(plain.state_dict(), strict=False)
    pooled = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(conv, plain, *pooled, linear, norm, nn.ReLU(), last)
    merged = fuse_linear_bn_eval(linear.eval(), norm.eval())
    expected = nn.Sequential(conv, affine, *pooled, merged, nn.ReLU(), last)
    maps = [LRP()(make_batch(), FrozenClassifier(one, name="any")) for one in (network, expected)]
    close(*maps)
    alone = nn.Sequential(conv, *pooled, nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match=r"BatchNorm1d after an nn\.Linear for LRP\. Found"):
        LRP()(make_batch(), FrozenClassifier(alone, name="any"))


def test_lrp_by_hand() -> None:
    """Box rule of the first convolution, gamma rule of the second, epsilon rule of the head."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        first, norm, second = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)
        head = nn.Linear(3 * 4, 2)
        nn.init.normal_(norm.bias)
        norm.running_mean, norm.running_var = torch.randn(4), 1 + torch.rand(4)
    network = nn.Sequential(first, norm, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), head)
    classifier = FrozenClassifier(network, name="small", mean=(0.5,) * 3, std=(0.25,) * 3)
    images = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    x = (images[0] - 0.5) / 0.25
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert first.bias is not None
    assert second.bias is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    w1 = scale[:, None] * first.weight[:, :, 0, 0]
    b1 = scale * (first.bias - norm.running_mean) + norm.bias
    w2, b2 = second.weight[:, :, 0, 0], second.bias
    a1 = torch.einsum("oi,ihw->ohw", w1, x).add(b1[:, None, None]).relu()
    z2 = torch.einsum("oi,ihw->ohw", w2, a1) + b2[:, None, None]
    a2 = z2.relu()
    logits = head.weight @ a2.flatten() + head.bias
    r2 = (a2.flatten() * head.weight[1]).view_as(a2) * logits[1] / (logits[1] + 1e-6)
    r1, r0 = torch.zeros_like(a1), torch.zeros_like(x)
    raised, raised_bias = w2 + 0.25 * w2.clamp(min=0), b2 + 0.25 * b2.clamp(min=0)
    low, high = -2.0, 2.0
    for i in range(2):
        for j in range(2):
            for o in range(3):
                if z2[o, i, j] > 0:
                    parts = a1[:, i, j] * raised[o]
                    r1[:, i, j] += parts / (parts.sum() + raised_bias[o]) * r2[o, i, j]
            for o in range(4):
                parts = x[:, i, j] * w1[o] - low * w1[o].clamp(min=0) - high * w1[o].clamp(max=0)
                bias = b1[o] - b1[o].clamp(min=0) - b1[o].clamp(max=0)
                r0[:, i, j] += parts / (parts.sum() + bias) * r1[o, i, j]
    target = torch.tensor([[0.0, 1.0]])
    found = LRP()({"image": images, "target": target}, classifier)[0]
    torch.testing.assert_close(found, r0.sum(0).detach(), rtol=1e-3, atol=1e-4)


# Segments


def test_kernel_shap_of_a_linear_model_is_the_gain_of_each_segment() -> None:
    (classifier, weights), images = linear_classifier(), make_images()
    gains = (weights[classifier(images).argmax(1)] * (images - blurred(images))).sum(1).detach()
    method = KernelSHAP(segments=20, samples=200)
    found, segments = method({"image": images}, classifier), slic_segments(images, 20)
    for saliency, gain, numbers in zip(found, gains, segments, strict=True):
        assert numbers.max() > 3
        for number in range(int(numbers.max()) + 1):
            expected = gain[numbers == number].sum().expand(int((numbers == number).sum()))
            torch.testing.assert_close(saliency[numbers == number], expected, rtol=0.01, atol=0.01)


def test_segments_do_not_depend_on_the_batch() -> None:
    images = make_images()
    together = slic_segments(images, 10)
    assert torch.equal(slic_segments(images[1:2], 10)[0], together[1])
    for numbers in together:
        assert set(numbers.flatten().tolist()) == set(range(int(numbers.max()) + 1))


@classifiers
def test_region_search(make: Make) -> None:
    classifier, images = make(), make_images(1)
    target = target_of({"image": images}, classifier)
    numbers, baseline = slic_segments(images, 9)[0], blurred(images)
    left, shown, expected = (
        set(range(int(numbers.max()) + 1)),
        set[int](),
        torch.zeros(HEIGHT, WIDTH),
    )
    while left:
        odds = {}
        for candidate in sorted(left):
            mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
            for number in shown | {candidate}:
                mask |= numbers == number
            logits = classifier(torch.where(mask, images, baseline))
            odds[candidate] = classifier.log_odds(logits, target).item()
        best = max(odds, key=lambda number: odds[number])
        expected[numbers == best] = len(left)
        shown.add(best)
        left.remove(best)
    with counted_passes() as passes:
        found = RegionSearch(segments=9)({"image": images, "decision": target}, classifier)
    assert torch.equal(found[0], expected)
    n = int(numbers.max()) + 1
    assert passes.number == (n + 2) * (n - 1) / 2


@needs_shap_bpt
def test_shap_bpt_shares_the_whole_gain() -> None:
    (classifier, weights), images = linear_classifier(), make_images(2)
    with counted_passes() as passes:
        found = ShapBPT(evaluations=50)({"image": images}, classifier)
    assert passes.number <= 2 * (1 + 2 + 64 + 50)
    gains = (weights[classifier(images).argmax(1)] * (images - blurred(images))).sum(1).detach()
    torch.testing.assert_close(found.sum((1, 2)), gains.sum((1, 2)), rtol=1e-3, atol=1e-3)
    assert (found - gains).abs().mean() < gains.abs().mean()  # coarser than the pixels


# Optimised masks


def bumps_around(y: float, x: float) -> dict[tuple[int, int], float]:
    """Height of the bumps of the cells around a point, in cells."""
    return {
        (i, j): math.exp(-(max(math.hypot(y - i - 0.5, x - j - 0.5) - 0.71, 0) ** 2) / 2)
        for i in range(int(y) - 2, int(y) + 3)
        for j in range(int(x) - 2, int(x) + 3)
    }


def smooth_maximum(values: list[float]) -> float:
    weights = [math.exp(20 * value) for value in values]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def test_smooth_maximum_over_bumps() -> None:
    cells = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    found = smoothly_enlarged(cells, HEIGHT, WIDTH)
    for mask, grid in zip(found, cells.tolist(), strict=True):
        for row, column in ((0, 0), (9, 13), (19, 25), (7, 2)):
            bumps = bumps_around((row + 0.5) * 5 / HEIGHT, (column + 0.5) * 6 / WIDTH)
            raised = [
                bump * grid[min(max(i, 0), 4)][min(max(j, 0), 5)] for (i, j), bump in bumps.items()
            ]
            expected = smooth_maximum(raised) / smooth_maximum(list(bumps.values()))
            assert mask[row, column].item() == pytest.approx(min(expected, 1), abs=1e-5)


def test_an_even_mask_stays_even() -> None:
    close(smoothly_enlarged(torch.ones(1, 4, 4), 9, 9), torch.ones(1, 9, 9))
    close(smoothly_enlarged(torch.zeros(1, 4, 4), 9, 9), torch.zeros(1, 9, 9))


def test_area_penalty_is_zero_for_masks_of_that_area_alone() -> None:
    mask = (torch.rand(1, 10, 10, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    area = mask.mean((1, 2))
    close(area_penalty(mask, area), torch.zeros(1))
    close(area_penalty(mask, area + 0.1), torch.tensor([0.1]))
    assert area_penalty(0.9 * mask, area) > 0


# Per-image optimisation


@classifiers
def test_divergences_of_per_image_optimisation(make: Make) -> None:
    classifier, images = make(), make_images(2)
    target = target_of({"image": images}, classifier)
    if target.shape[1] > 1 and classifier.output == "sigmoid":
        target[:, 1] = 0  # a label that is not asked about
    mask = torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    found = _Views(images, target, classifier).divergences(mask)
    for place in range(2):
        image, m = images[place], mask[place]
        baseline = blurred(images)[place]
        views = torch.stack([m * image + (1 - m) * baseline, (1 - m) * image + m * baseline])
        logits = classifier(torch.cat([views, baseline[None]])).double()
        kept = left_out = 0.0
        if classifier.output == "softmax":
            p = logits.softmax(1)[:, target[place].argmax()]
            questions = [p]
        else:
            signed = logits * target[place]
            questions = [
                signed[:, label].sigmoid()
                for label in range(signed.shape[1])
                if target[place, label]
            ]
            kept += math.log(2) * (signed.shape[1] - len(questions))
        for shown, hidden, uninformed in (question.tolist() for question in questions):
            kept -= math.log(shown)
            left_out += uninformed * math.log(uninformed / hidden)
            left_out += (1 - uninformed) * math.log((1 - uninformed) / (1 - hidden))
        assert found[0][place].item() == pytest.approx(kept, rel=1e-3)
        assert found[1][place].item() == pytest.approx(left_out, rel=1e-2, abs=1e-5)


def test_per_image_optimisation_lowers_its_loss() -> None:
    classifier = FrozenClassifier(RedAndGreen(), name="colours")
    images, target = two_objects(), torch.tensor([[1.0, 0.0, 0.0]])
    views = _Views(images, target, classifier)

    def loss(saliency: Tensor) -> float:
        threshold = saliency.flatten(1).quantile(0.85)
        kept, left_out = views.divergences((saliency > threshold).float())
        return float(kept + 3 * left_out)

    method = PerImageOptimisation(grid=10)
    optimised = method({"image": images, "target": target}, classifier)
    one_step = PerImageOptimisation(steps=1, grid=10)(
        {"image": images, "target": target}, classifier
    )
    assert loss(optimised) < 0.7 * loss(one_step)
