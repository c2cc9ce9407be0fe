"""The universal encoder: the same network for every classifier, for any size of image."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier, class_target, counted_passes
from saliency_vae.classifiers.digit_networks import digit_network
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.models.edge_aware import edge_aware
from saliency_vae.models.encoders import UNet
from saliency_vae.models.part_names import to_named, to_node
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.models.universal_signals import UniversalSignals
from saliency_vae.perturbations import Blur
from tests.conftest import blob_classifier, blobs
from tests.helpers.digit_transformer import DigitTransformer
from tests.helpers.tiny_classifier import build

SMALL = (4, 5, 6, 7)


def encoder_of(**settings: Any) -> UniversalUNet:
    """An encoder with a head that lets something through, in eval mode."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"channels": SMALL, "copies": 2}
    encoder = UniversalUNet(**(defaults | settings))
    assert isinstance(encoder.unet, UNet)
    nn.init.normal_(encoder.unet.head.weight)
    return encoder.eval()


def classifier_of(network: nn.Module) -> FrozenClassifier:
    return FrozenClassifier(network.eval(), name="test")


@pytest.fixture(scope="module")
def digits() -> FrozenClassifier:
    torch.manual_seed(0)
    return classifier_of(digit_network("convolutional"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": (4, 0)}, r"encoder\.channels to be positive whole numbers\. Found \[4, 0\]"),
        ({"channels": ()}, r"encoder\.channels"),
        ({"channels": (4,) * 7}, r"encoder\.channels of at most 6 scales.* Found \[4, 4, 4, 4,"),
        ({"levels": (0.5,)}, r"encoder\.levels in \(0, 1\], rising to 1\. Found \(0\.5,\)"),
        ({"levels": (0.0, 1.0)}, r"encoder\.levels"),
        ({"levels": ()}, r"encoder\.levels"),
        ({"copies": 0}, r"encoder\.copies >= 1\. Found 0"),
        ({"output_stride": 0}, r"encoder\.output_stride >= 1\. Found 0"),
    ],
)
def test_wrong_settings(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UniversalUNet(**settings)


def test_it_can_be_saved_under_a_stable_name() -> None:
    node = {"_target_": "saliency_vae.models.universal_encoder.UniversalUNet", "channels": [4, 8]}
    named = to_named("encoder", node)
    assert "_target_" not in named
    assert to_node("encoder", named, "file") == node


# ---- any classifier


def test_one_network_is_for_classifiers_of_other_channels_and_classes(
    digits: FrozenClassifier,
) -> None:
    encoder = encoder_of()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    images = torch.rand(2, 3, 48, 48)
    torch.manual_seed(0)
    explainer = Explainer(encoder, prior=partial(KroneckerNormal, correlation=0.5)).eval()
    maps = []
    flat = classifier_of(nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 2)))
    transformer = classifier_of(DigitTransformer(48))
    for classifier in (digits, classifier_of(build()), transformer, flat):
        explainer.find_features(classifier, images)  # of a universal encoder there is nothing to do
        with torch.no_grad():
            maps.append(explainer.attach_classifier(classifier)(images).mean)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(found.shape == (2, 48, 48) and found.isfinite().all() for found in maps)
    assert not any(torch.allclose(maps[0], other, atol=1e-2) for other in maps[1:])


def made_signals(size: tuple[int, int], strides: tuple[int, ...]) -> UniversalSignals:
    height, width = size
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.rand, generator=generator)
    maps = {s: draw(2, 16, -(-height // s), -(-width // s)) for s in strides}
    return UniversalSignals(draw(2, 3), draw(2, 3), draw(2, 4, height, width), maps)


@pytest.mark.parametrize("missing", [2, 4, 8])
def test_zeros_stand_for_a_stride_that_is_missing(missing: int) -> None:
    encoder = encoder_of()
    signals = made_signals((32, 48), (2, 4, 8))
    images = torch.rand(2, 3, 32, 48)
    with torch.no_grad():
        whole = encoder(images, signals)
        blank = torch.zeros_like(signals.maps[missing])
        signals.maps[missing] = blank
        zeros = encoder(images, signals)
        del signals.maps[missing]
        without = encoder(images, signals)
    assert torch.equal(zeros, without)
    assert not torch.allclose(whole, without, atol=1e-3)


def test_a_map_joins_the_scale_of_its_stride() -> None:
    encoder = UniversalUNet(SMALL, levels=(0.2, 0.5, 1.0))
    assert isinstance(encoder.unet, UNet)
    inputs = [block[0][0].in_channels for block in encoder.unet.down]  # type: ignore[index]
    assert inputs == [3 + 6, 4 + 24, 5 + 24, 6 + 24]
    sizes: list[tuple[int, ...]] = []
    for block in encoder.unet.down:
        block.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[-2:]))
    encoder = encoder.eval()
    maps = {stride: torch.rand(1, 24, 32 // stride, 32 // stride) for stride in (2, 4, 8, 16)}
    signals = UniversalSignals(torch.rand(1, 3), torch.rand(1, 3), torch.rand(1, 6, 32, 32), maps)
    encoder(torch.rand(1, 3, 32, 32), signals)  # the map at stride 16 has no scale
    assert sizes == [(32, 32), (16, 16), (8, 8), (4, 4)]


def test_every_parameter_learns_and_every_signal_matters() -> None:
    encoder = encoder_of().train()
    seen = made_signals((32, 32), (2, 4, 8))
    told: list[Tensor] = [seen.gradients, *seen.maps.values()]
    for tensor in told:
        tensor.requires_grad_()
    output = encoder(torch.rand(2, 3, 32, 32), seen)
    torch.autograd.backward((output * torch.randn_like(output)).sum())
    for name, tensor in (*encoder.named_parameters(), *enumerate(told)):
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name


# ---- sizes


@pytest.mark.parametrize("output_stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(48, 48), (128, 128), (50, 66), (49, 67)])
def test_maps_have_the_size_of_the_image(
    digits: FrozenClassifier, size: tuple[int, int], output_stride: int
) -> None:
    encoder = encoder_of(channels=(4, 5, 6, 7, 8, 9), copies=1, output_stride=output_stride)
    images = torch.rand(1, 3, *size)
    with torch.no_grad():
        output = encoder(images, encoder.signals(images, digits))
    assert output.shape == (1, 2, *size)
    assert output.dtype == torch.float32
    assert output.isfinite().all()
    assert output.std() > 1e-3


def test_an_output_stride_averages_and_enlarges() -> None:
    fine, coarse = encoder_of(), encoder_of(output_stride=2)
    signals, images = made_signals((32, 32), (2, 4, 8)), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected, found = fine(images, signals), coarse(images, signals)
    cells = torch.stack([expected[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(0)
    # Bilinear: the four pixels about a corner of four cells average to the mean of these cells.
    corners = torch.stack(
        [found[..., 1 + i : 30 + i : 2, 1 + j : 30 + j : 2] for i in (0, 1) for j in (0, 1)]
    )
    about = torch.stack([cells[..., i : 15 + i, j : 15 + j] for i in (0, 1) for j in (0, 1)])
    torch.testing.assert_close(corners.mean(0), about.mean(0))
    weights = torch.tensor([9.0, 3.0, 3.0, 1.0]) / 16  # of a pixel's own cell and its neighbours
    torch.testing.assert_close(corners[0], (weights.view(4, 1, 1, 1, 1) * about).sum(0))


# ---- noise, and cost


def test_the_noise_is_fixed_except_in_training(digits: FrozenClassifier) -> None:
    encoder, images = encoder_of(copies=3), blobs(4)
    target = class_target(torch.tensor([1, 0, 2, 3]), torch.zeros(4, 10))
    first, second = (encoder.signals(images, digits, target) for _ in range(2))
    assert torch.equal(first.gradients, second.gradients)
    alone = encoder.signals(images[2:3], digits, target[2:3])
    torch.testing.assert_close(alone.gradients[0], first.gradients[2], rtol=1e-3, atol=1e-3)
    state = torch.get_rng_state()
    encoder.signals(images, digits)
    assert torch.equal(torch.get_rng_state(), state)

    encoder.train()
    for encoder.one_copy in (False, True):
        found = [encoder.signals(images, digits, target).gradients.chunk(2, 1) for _ in range(2)]
        (first_mean, spread), (second_mean, _) = found
        assert bool(spread.any()) != encoder.one_copy
        assert torch.equal(first_mean, second_mean) == encoder.one_copy


def test_in_training_each_image_has_noise_of_its_own() -> None:
    encoder = encoder_of(copies=2).train()
    images = torch.full((2, 3, 16, 16), 0.5)
    torch.manual_seed(0)
    noise = encoder._noise(images)
    assert noise.shape == (1, *images.shape)
    assert not torch.equal(noise[0, 0], noise[0, 1])
    assert 0.08 < noise.std() < 0.12
    shared = encoder.eval()._noise(images)
    assert shared.shape == (1, 1, 3, 16, 16)
    assert 0.08 < shared.std() < 0.12


@pytest.mark.parametrize(
    ("copies", "levels"), [(1, (1.0,)), (1, (0.5, 1.0)), (4, (0.5, 1.0)), (3, (0.2, 0.6, 1.0))]
)
def test_an_explanation_costs_a_pass_for_each_copy_and_level(
    copies: int, levels: tuple[float, ...]
) -> None:
    explainer = Explainer(
        encoder_of(copies=copies, levels=levels), prior=partial(KroneckerNormal, correlation=0.5)
    ).attach_classifier(blob_classifier())
    with counted_passes() as passes, torch.inference_mode():
        explainer.eval()(blobs(3))
    assert passes.number == 3 * copies * len(levels)


def test_refinement_moves_maps_of_small_scale_by_small_steps(digits: FrozenClassifier) -> None:
    explainer = load_explainer("universal", digits)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    start = explainer(images)
    refined = explainer.refine(images, digits, steps=1, evaluations=1)
    moved = (refined.posterior.mean - start.mean).abs().amax((-2, -1))
    # The first step of Adam moves each coordinate by the learning rate, at most.
    farthest = explainer.prior(images).colour(torch.ones(1, 32, 32)).amax()
    scale = (start.mean.var((-2, -1)) + start.stddev.square().mean((-2, -1))).sqrt()
    assert (moved > 0).any()
    assert (moved <= 1.01 * 0.005 * farthest * scale).all()


def test_refinement_is_by_the_bounded_objective_over_a_blur(digits: FrozenClassifier) -> None:
    explainer = load_explainer("universal", digits)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    over_blur = explainer.objective(Blur())
    found, bounded, unbounded = (
        explainer.refine(images, digits, steps=2, objective=objective)
        for objective in (None, over_blur.bounded(), over_blur)
    )
    assert torch.equal(found.posterior.mean, bounded.posterior.mean)
    assert torch.equal(found.after, bounded.after)
    assert not torch.equal(found.after, unbounded.after)


def test_the_posterior_says_where_the_signals_disagree(digits: FrozenClassifier) -> None:
    explainer = load_explainer("universal", digits, copies=2)  # one alone disagrees with nothing
    assert explainer.config.encoder["copies"] == 2
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    posterior, signals = explainer(images), explainer.signals(images)
    assert isinstance(signals, UniversalSignals)
    assert posterior.signal_spread is not None
    # Channels: the mean over the copies at each of two levels, then the spread at each.
    expected = (signals.gradients[:, 2] + signals.gradients[:, 3]) / 2
    torch.testing.assert_close(posterior.signal_spread, expected)
    assert (posterior.signal_spread > 0).all()
    refined = explainer.refine(images, digits, steps=1).posterior
    assert refined.signal_spread is not None
    torch.testing.assert_close(refined.signal_spread, expected)
    one = Explainer(encoder_of(copies=1), prior=partial(KroneckerNormal, correlation=0.5))
    assert one.attach_classifier(digits).eval()(images).signal_spread is None


def test_the_disagreement_of_the_signals_of_a_double_classifier_is_float32() -> None:
    double = classifier_of(digit_network("convolutional").double())
    explainer = load_explainer("universal", double, copies=2)
    spread = explainer(torch.rand(1, 3, 32, 32)).signal_spread
    assert spread is not None
    assert spread.dtype == torch.float32


def test_refinement_keeps_what_it_cannot_improve(digits: FrozenClassifier) -> None:
    explainer = load_explainer("universal", digits)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    start, only_prior = explainer(images), replace(explainer.objective(), beta=1e3)
    refined = explainer.refine(images, digits, steps=1, lr=1e3, objective=only_prior)
    assert torch.equal(refined.after, refined.before)
    assert torch.equal(refined.posterior.mean, start.mean)
    assert torch.equal(refined.posterior.log_variance, start.log_variance)


def test_explanations_depend_on_what_is_asked(digits: FrozenClassifier) -> None:
    explainer = Explainer(encoder_of(), prior=partial(KroneckerNormal, correlation=0.5)).eval()
    explainer.attach_classifier(digits)
    images = torch.rand(2, 3, 48, 48)
    asked = [class_target(torch.full((2,), label), torch.zeros(2, 10)) for label in (3, 7)]
    with torch.inference_mode():
        three, seven = (explainer.encode(images, target=target).mean for target in asked)
        again = explainer.encode(images, target=asked[0]).mean
    assert torch.equal(three, again)
    assert not torch.allclose(three, seven, atol=1e-2)


def test_a_share_of_the_mean_is_smoothed_and_nothing_of_the_variance() -> None:
    torch.manual_seed(0)
    encoder, smoothing = (UniversalUNet([8, 8], edge_aware=share).eval() for share in (0, 0.5))
    for value in encoder.parameters():
        torch.nn.init.normal_(value, std=0.3)
    smoothing.load_state_dict(encoder.state_dict())
    images = torch.rand(2, 3, 32, 32)
    signals = made_signals((32, 32), (2,))
    plain, half = encoder(images, signals), smoothing(images, signals)
    torch.testing.assert_close(half[:, 1], plain[:, 1])
    expected = (plain[:, 0] + edge_aware(plain[:, 0], images)) / 2
    torch.testing.assert_close(half[:, 0], expected)


def test_a_share_outside_0_and_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"encoder.edge_aware in \[0, 1\]. Found 1.5"):
        UniversalUNet([8, 8], edge_aware=1.5)
