"""Signals of any classifier for any class, against slow references."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier, Target, class_target, counted_passes
from saliency_vae.classifiers.digit_networks import DigitNet, ResidualDigitNet
from saliency_vae.classifiers.targets import Output
from saliency_vae.models.signals import scaled
from saliency_vae.models.universal_signals import UniversalSignals, extract_universal_signals
from saliency_vae.perturbations import blurred
from tests.conftest import blob_classifier, blobs
from tests.helpers.digit_transformer import DigitTransformer
from tests.helpers.tiny_classifier import build

LEVELS = (0.4, 1.0)
CLASSES = 3


def classifier_of(network: nn.Module, output: Output = "softmax") -> FrozenClassifier:
    return FrozenClassifier(network.eval(), name="test", output=output)


def small_classifier(output: Output = "softmax") -> FrozenClassifier:
    """Maps of 4 channels at stride 2 and of 5 at stride 4, in float64."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, 2, 1), nn.Tanh(), nn.Conv2d(4, 5, 3, 2, 1), nn.Tanh()),
        *(nn.Flatten(), nn.Linear(5 * 4 * 5, CLASSES)),
    )
    classifier = FrozenClassifier(
        network, name="small", mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.4), output=output
    )
    return classifier.double()


def extract(
    images: Tensor,
    classifier: FrozenClassifier,
    target: Target | None = None,
    copies: int = 1,
    seed: int = 1,
) -> UniversalSignals:
    generator = torch.Generator().manual_seed(seed)
    noise = 0.1 * torch.randn(copies - 1, 1, *images.shape[1:], generator=generator)
    found: UniversalSignals = extract_universal_signals(
        images, classifier, target=target, levels=LEVELS, noise=noise
    )
    return found


def target_of(signals: UniversalSignals) -> Tensor:
    assert signals.target is not None
    return signals.target


def by_kind(maps: Tensor) -> Tensor:
    """Maps (B, mean or spread, levels, kinds, h, w)."""
    return maps.view(len(maps), 2, -1, 4, *maps.shape[-2:])


def assert_same(found: UniversalSignals, expected: UniversalSignals, within: float = 1e-5) -> None:
    """Assert that signals are the same, within a tolerance both relative and absolute."""
    pairs = [(found.logits, expected.logits), (found.gradients, expected.gradients)]
    assert found.maps.keys() == expected.maps.keys()
    pairs += [(found.maps[stride], maps) for stride, maps in expected.maps.items()]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=within, atol=within)
    assert torch.equal(target_of(found), target_of(expected))


def test_a_gradient_of_zero_stays_zero_in_half_precision() -> None:
    """The least spread that counts, of a large flat image, would be zero in float16."""
    assert not scaled(torch.zeros(1, 600, 600).half()).any()


def test_a_network_that_was_compiled_shows_its_maps() -> None:
    torch.manual_seed(0)
    network, images = build().eval(), torch.rand(1, 3, 32, 32)
    expected = extract(images, classifier_of(network))
    compiled = cast(nn.Module, torch.compile(network, backend="eager"))
    classifier = classifier_of(compiled)
    classifier(images)  # compiled now, without hooks
    assert_same(extract(images, classifier), expected)


# ---- a slow reference: one image, one level, one copy at a time


def log_odds(logits: Tensor, target: list[float], output: Output) -> Tensor:
    """Log-odds of the target, from its definition."""
    if output == "softmax":
        p = logits.softmax(0)[target.index(1)]
        return (p / (1 - p)).log()
    odds = logits.new_zeros(())
    for logit, weight in zip(logits, target, strict=True):
        p = torch.sigmoid(logit)
        odds = odds + weight * (p / (1 - p)).log()
    return odds


def kinds_of(activation: Tensor, gradient: Tensor) -> Tensor:
    """Positive part, negative part, Grad-CAM and strength, each over its mean, (4, h, w)."""
    channels, height, width = activation.shape
    maps = torch.zeros(4, height, width, dtype=torch.float64)
    for row in range(height):
        for column in range(width):
            a, g = activation[:, row, column], gradient[:, row, column]
            product = sum(float(x * y) for x, y in zip(a, g, strict=True))
            cam = sum(float(a[c] * gradient[c].mean()) for c in range(channels))
            strength = math.sqrt(sum(float(x) ** 2 for x in a))
            maps[:, row, column] = torch.tensor(
                [max(product, 0), max(-product, 0), max(cam, 0), strength]
            )
    for kind in maps:
        if kind.mean() > 0:
            kind /= kind.mean()
    return maps


def smooth(gradient: Tensor) -> Tensor:
    """Weights 1, 2, 1 along both axes; the border is repeated."""
    weights = torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64)
    framed = F.pad(gradient[None, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(framed, (weights * weights.T / 16)[None, None])[0, 0]


def reference(
    image: Tensor, classifier: FrozenClassifier, noises: list[Tensor], target: list[float]
) -> tuple[Tensor, dict[int, Tensor]]:
    """Gradients (2 x levels, H, W), and maps by stride (8 x levels, h, w)."""
    layers = cast(nn.Sequential, classifier.network)
    baseline = blurred(image[None])[0]
    gradients: list[list[Tensor]] = [[] for _ in LEVELS]  # by level and copy
    maps: dict[int, list[list[Tensor]]] = {2: [[] for _ in LEVELS], 4: [[] for _ in LEVELS]}
    for noise in (torch.zeros_like(image), *noises):
        for place, level in enumerate(LEVELS):
            mask = torch.full(image.shape[-2:], level, dtype=torch.float64, requires_grad=True)
            view = mask * (image + noise) + (1 - mask) * baseline
            first = layers[:2](((view - classifier.mean) / classifier.std)[None])
            second = layers[2:4](first)
            score = log_odds(layers[4:](second)[0], target, classifier.output)
            of_mask, of_first, of_second = torch.autograd.grad(score, [mask, first, second])
            scaled = smooth(of_mask)
            gradients[place].append((scaled / scaled.std()).clamp(-10, 10))
            maps[2][place].append(kinds_of(first[0].detach(), of_first[0]))
            maps[4][place].append(kinds_of(second[0].detach(), of_second[0]))

    def over_copies(found: list[list[Tensor]]) -> Tensor:
        copied = [torch.stack(copies) for copies in found]
        means = [copies.mean(0) for copies in copied]
        spreads = [
            copies.std(0) if len(copies) > 1 else torch.zeros_like(copies[0]) for copies in copied
        ]
        return torch.stack(means + spreads)

    by_stride = {stride: over_copies(of).flatten(0, 1).log1p() for stride, of in maps.items()}
    return over_copies(gradients), by_stride


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize(
    ("output", "target"),
    [
        ("softmax", [0.0, 0.0, 1.0]),
        ("sigmoid", [0.0, 1.0, 0.0]),
        ("sigmoid", [0.0, 0.0, -1.0]),
        ("sigmoid", [1.0, -1.0, 1.0]),
    ],
)
def test_signals_are_those_of_a_slow_reference(
    output: Output, target: list[float], copies: int
) -> None:
    classifier = small_classifier(output)
    images = torch.rand(2, 3, 16, 18, dtype=torch.float64)
    noise = 0.1 * torch.randn(copies - 1, 2, 3, 16, 18, dtype=torch.float64)  # of each image
    asked = torch.tensor([target, target])
    found = extract_universal_signals(images, classifier, target=asked, levels=LEVELS, noise=noise)
    assert found.gradients.shape == (2, 2 * len(LEVELS), 16, 18)
    assert {stride: maps.shape for stride, maps in found.maps.items()} == {
        2: (2, 8 * len(LEVELS), 8, 9),
        4: (2, 8 * len(LEVELS), 4, 5),
    }
    assert torch.equal(target_of(found).float(), asked)
    torch.testing.assert_close(found.logits, classifier(images))
    for index in range(2):
        gradients, maps = reference(images[index], classifier, list(noise[:, index]), target)
        torch.testing.assert_close(found.gradients[index].double(), gradients, rtol=1e-3, atol=1e-3)
        assert gradients.abs().max() > 1
        for stride, expected in maps.items():
            of_image = found.maps[stride][index].double()
            torch.testing.assert_close(of_image, expected, rtol=1e-3, atol=1e-4)


class TokenNet(nn.Module):
    """A transformer whose attention is written out, so that a reference can go through it."""

    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.token = nn.Parameter(torch.randn(1, int(class_token), 8))
        self.before, self.after = nn.LayerNorm(8), nn.LayerNorm(8)
        self.to_values = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES)

    def embed(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).mT
        return torch.cat([self.token.expand(len(images), -1, -1), patches], 1)

    def attend(self, tokens: Tensor, normed: Tensor) -> Tensor:
        weights = (normed @ normed.mT).softmax(-1)
        return tokens + weights @ torch.tanh(self.to_values(normed))

    def read(self, normed: Tensor) -> Tensor:
        read = normed[:, 0] if self.token.shape[1] else normed.mean(1)
        return cast(Tensor, self.head(read))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images)
        return self.read(self.after(self.attend(tokens, self.before(tokens))))


class PositionNet(TokenNet):
    """A map of positions is added to the patches after the attention, as in CoaT."""

    def __init__(self) -> None:
        super().__init__(class_token=True)
        self.positions = nn.Conv2d(8, 8, 3, padding=1)

    def attend(self, tokens: Tensor, normed: Tensor) -> Tensor:
        attended = super().attend(tokens, normed)
        positions = self.positions(normed[:, 1:].mT.reshape(-1, 8, 4, 6)).flatten(2).mT
        return torch.cat([attended[:, :1], attended[:, 1:] + positions], 1)


@pytest.mark.parametrize(
    "make", [partial(TokenNet, class_token=True), partial(TokenNet, class_token=False), PositionNet]
)
def test_of_tokens_those_count_that_the_logits_depend_on(make: Callable[[], TokenNet]) -> None:
    torch.manual_seed(0)
    network = make()
    class_token = network.token.shape[1] > 0
    classifier = classifier_of(network)
    images = torch.rand(1, 3, 32, 48)
    asked = torch.tensor([[0.0, 1.0, 0.0]])
    found = extract(images, classifier, asked)
    tokens = network.embed(images).detach()
    normed = network.before(tokens).requires_grad_()
    last = network.after(network.attend(tokens, normed))
    features = normed if class_token else last
    score = log_odds(network.read(last)[0], [0.0, 1.0, 0.0], "softmax")
    (gradient,) = torch.autograd.grad(score, features)
    activation, of_patches = (
        values[0, int(class_token) :].mT.reshape(8, 4, 6) for values in (features, gradient)
    )
    expected = kinds_of(activation.detach(), of_patches).log1p().float()
    assert list(found.maps) == [8]
    torch.testing.assert_close(found.maps[8][0, 4:8], expected, rtol=1e-3, atol=1e-4)
    assert expected.std() > 0.05


# ---- shapes, ranges and independence

NETWORKS = ("convolutional", "residual", "transformer")


def network_of(family: str) -> FrozenClassifier:
    torch.manual_seed(0)
    if family == "transformer":
        return classifier_of(DigitTransformer(32))
    return classifier_of(ResidualDigitNet() if family == "residual" else DigitNet())


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_images_give_finite_signals(architecture: str, value: float) -> None:
    classifier = network_of(architecture)
    signals = extract(torch.full((2, 3, 32, 32), value), classifier)  # no noise: all copies flat
    assert signals.gradients.shape == (2, 4, 32, 32)
    assert signals.gradients.abs().max() < 0.1
    assert set(signals.maps) == {2, 4, 8}
    for stride, maps in signals.maps.items():
        assert maps.shape == (2, 16, 32 // stride, 32 // stride)
        assert maps.isfinite().all()
        assert (maps >= 0).all()


def test_what_no_pixel_matters_to_gives_zeros() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    nn.init.zeros_(cast(nn.Linear, network[4]).weight)
    signals = extract(torch.rand(2, 3, 16, 16), classifier_of(network), copies=3)
    assert not signals.gradients.any()
    maps = by_kind(signals.maps[2])
    assert not maps[:, :, :, :3].any()
    assert maps[:, 0, :, 3].any()  # the strength of the activation is no gradient


@pytest.mark.parametrize("architecture", NETWORKS)
def test_signals_do_not_depend_on_the_batch(architecture: str) -> None:
    classifier = network_of(architecture)
    images = torch.rand(3, 3, 32, 32)
    asked = class_target(torch.tensor([4, 0, 9]), torch.zeros(3, 10))
    whole = extract(images, classifier, asked, copies=3)
    for index in range(3):
        one = slice(index, index + 1)
        alone = extract(images[one], classifier, asked[one], copies=3)
        of_batch = UniversalSignals(
            whole.logits[one],
            target_of(whole)[one],
            whole.gradients[one],
            {stride: maps[one] for stride, maps in whole.maps.items()},
        )
        assert_same(alone, of_batch, 1e-3)


class WithoutGradient(nn.Module):
    """The linear layer has a gradient, and none of it reaches the image, or raises an error."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.in_place, self.bias = in_place, nn.Parameter(torch.zeros(3))

    def forward(self, images: Tensor) -> Tensor:
        colours = images.mean((-2, -1)).exp()
        if self.in_place:
            logits = colours + 0
            colours += 1  # exp() needs its result for the gradient
            return logits
        return colours.detach() * (torch.zeros(1, requires_grad=True) + 1)


@pytest.mark.parametrize(
    ("in_place", "found"),
    [(False, "Found none"), (True, "Found an error .*modified by an inplace operation")],
)
def test_a_network_without_a_gradient_to_its_images_is_refused(in_place: bool, found: str) -> None:
    classifier = classifier_of(WithoutGradient(in_place=in_place))
    with pytest.raises(ValueError, match=f"^Expected classifier test to have a gradient. {found}"):
        extract(torch.rand(2, 3, 16, 16), classifier)


def test_strides_that_a_classifier_lacks_are_missing() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    signals = extract(torch.rand(2, 3, 16, 16), classifier_of(flat), copies=2)
    assert signals.maps == {}
    assert signals.gradients.any()


class TwoBranches(nn.Module):
    """The map at stride 4 is computed and left out of the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        self.unused(images)
        return cast(Tensor, self.head(self.used(images).tanh().mean((-2, -1))))


def test_a_map_that_the_logits_do_not_depend_on_is_missing() -> None:
    signals = extract(torch.rand(2, 3, 16, 16), classifier_of(TwoBranches()))
    assert set(signals.maps) == {2}


@pytest.mark.parametrize("name", ["test_vit", "test_maxvit", "test_coatnet", "test_convnext"])
def test_networks_of_timm_at_the_size_of_their_training(name: str) -> None:
    torch.manual_seed(0)
    size = 160
    classifier = classifier_of(timm.create_model(name, pretrained=False))
    signals = extract(torch.rand(1, 3, size, size), classifier)
    assert 16 in signals.maps
    for stride, maps in signals.maps.items():
        assert maps.shape == (1, 16, size // stride, size // stride)
        assert maps.isfinite().all()


# ---- what is asked


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_without_a_target_the_decision_is_asked_about(output: Output) -> None:
    classifier = small_classifier(output)
    images = torch.rand(4, 3, 16, 18)
    by_default = extract(images, classifier, copies=2)
    decision = classifier.decide(classifier(images))
    assert torch.equal(target_of(by_default), decision.float())
    assert_same(extract(images, classifier, decision, copies=2), by_default)


def test_a_function_chooses_the_target_by_the_logits_of_the_whole_image() -> None:
    classifier = small_classifier()
    images = torch.rand(4, 3, 16, 18)
    seen: list[Tensor] = []

    def least(logits: Tensor) -> Tensor:
        seen.append(logits)
        return class_target(logits.argmin(1), logits)

    found = extract(images, classifier, least, copies=2)
    (logits,) = seen
    torch.testing.assert_close(logits, classifier(images))
    assert not logits.requires_grad
    asked = class_target(classifier(images).argmin(1), logits)
    assert_same(found, extract(images, classifier, asked, copies=2))
    decided = extract(images, classifier, copies=2)
    assert not torch.allclose(found.gradients, decided.gradients, atol=0.1)
    assert not torch.allclose(found.maps[4], decided.maps[4], atol=0.1)


def test_a_function_may_give_the_score_itself() -> None:
    """For a class of a softmax, its log-odds are a function of the logits."""
    classifier = small_classifier()
    images = torch.rand(3, 3, 16, 18)
    asked = torch.tensor([[0.0, 0.0, 1.0]] * 3)

    def odds(logits: Tensor) -> Tensor:
        return logits[:, 2] - torch.logsumexp(logits[:, :2], 1)

    found = extract(images, classifier, odds, copies=2)
    expected = extract(images, classifier, asked, copies=2)
    assert found.target is None
    torch.testing.assert_close(found.gradients, expected.gradients, rtol=1e-4, atol=1e-4)
    for stride, maps in expected.maps.items():
        torch.testing.assert_close(found.maps[stride], maps, rtol=1e-4, atol=1e-4)


def test_one_label_speaks_against_itself_with_the_signs_swapped() -> None:
    classifier = small_classifier("sigmoid")
    images, asked = torch.rand(2, 3, 16, 18), torch.tensor([[0.0, 1.0, 0.0]] * 2)
    present, absent = (extract(images, classifier, sign * asked) for sign in (1, -1))
    torch.testing.assert_close(present.gradients, -absent.gradients)
    for stride, maps in present.maps.items():
        swapped = by_kind(absent.maps[stride])[:, :, :, [1, 0]]
        torch.testing.assert_close(by_kind(maps)[:, :, :, :2], swapped)


def test_all_copies_and_levels_are_one_pass_each() -> None:
    images = torch.rand(3, 3, 16, 18)
    with counted_passes() as passes:
        extract(images, small_classifier(), copies=4)
    assert passes.number == 3 * 4 * len(LEVELS)


def network_calls(size: int) -> int:
    """Calls of the network for four copies of one image."""
    network = nn.Sequential(nn.Conv2d(3, 2, 16, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier, calls = classifier_of(network), list[Any]()
    convolution = cast(nn.Sequential, classifier.network)[0]
    convolution.register_forward_hook(lambda *call: calls.append(call))
    extract(torch.rand(1, 3, size, size), classifier, copies=4)
    return len(calls)


def test_a_cpu_takes_copies_of_small_images_together() -> None:
    assert (network_calls(48), network_calls(224)) == (1, 4)


@pytest.mark.parametrize("target", [None, torch.eye(10)[[3, 7]], lambda logits: logits[:, 0]])
def test_together_or_apart_copies_give_the_same_signals(
    target: Target | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, classifier = torch.rand(2, 3, 32, 32), network_of("residual")
    together = extract(images, classifier, target, copies=3)
    monkeypatch.setattr("saliency_vae.models.universal_signals._PIXELS_ON_CPU", 0)
    apart = extract(images, classifier, target, copies=3)
    torch.testing.assert_close(together.gradients, apart.gradients, rtol=1e-3, atol=1e-3)
    for stride, maps in apart.maps.items():
        torch.testing.assert_close(together.maps[stride], maps, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(together.logits, apart.logits)


def test_zeroed_signals_keep_what_is_asked() -> None:
    signals = extract(torch.rand(2, 3, 16, 18), small_classifier(), copies=2)
    zeroed = signals.zeroed()
    assert torch.equal(zeroed.logits, signals.logits)
    assert torch.equal(target_of(zeroed), target_of(signals))
    assert not zeroed.gradients.any()
    assert {stride: maps.shape for stride, maps in zeroed.maps.items()} == {
        stride: maps.shape for stride, maps in signals.maps.items()
    }
    assert not any(maps.any() for maps in zeroed.maps.values())
    assert signals.gradients.any()


# ---- the modes of torch, and threads


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_signals_are_the_same_where_no_gradients_are_recorded(mode: Any) -> None:
    classifier = network_of("transformer")
    images = torch.rand(2, 3, 32, 32)
    expected = extract(images, classifier, copies=2)
    with mode():
        within = torch.clone(images)  # of the mode itself
        found = extract(within, classifier, copies=2)
    assert_same(found, expected)
    assert not any(tensor.requires_grad for tensor in (found.gradients, *found.maps.values()))


def test_signals_are_as_exact_under_autocast() -> None:
    classifier, images = network_of("residual"), torch.rand(2, 3, 32, 32)
    expected = extract(images, classifier, copies=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(extract(images, classifier, copies=2), expected)
    assert_same(extract(blobs(2), blob_classifier()), extract(blobs(2), blob_classifier()))


def test_signals_take_no_part_in_training() -> None:
    network = network_of("convolutional")
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    signals = extract(images, network, copies=2)
    for tensor in (signals.logits, target_of(signals), signals.gradients, *signals.maps.values()):
        assert not tensor.requires_grad
    assert images.grad is None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_threads_that_share_a_classifier_get_their_own_signals() -> None:
    classifier = network_of("convolutional")
    batches = [torch.rand(1 + index % 3, 3, 32, 32) for index in range(12)]
    alone = [extract(images, classifier, copies=2) for images in batches]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda images: extract(images, classifier, copies=2), batches))
    for expected, signals in zip(alone, found, strict=True):
        assert_same(signals, expected, 1e-3)


class Raises(nn.Module):
    """A module that fails."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("broken on purpose")


def test_hooks_are_removed_even_if_the_network_raises() -> None:
    network = nn.Sequential(DigitNet(), Raises())
    with pytest.raises(RuntimeError, match="on purpose"):
        extract(torch.rand(1, 3, 32, 32), classifier_of(network))
    assert not any(module._forward_hooks for module in network.modules())
    assert extract(torch.rand(1, 3, 32, 32), classifier_of(network[0])).maps
