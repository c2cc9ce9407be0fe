"""Signals of a classifier: gradients and feature maps, against slow references."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.models.signals import extract_signals, find_feature_maps
from saliency_vae.perturbations import blurred, perturb
from tests.conftest import blob_classifier, blobs
from tests.models import test_feature_taps

LEVELS = (0.3, 0.7, 1.0)


def classifier_of(network: nn.Module, output: Output = "softmax") -> FrozenClassifier:
    return FrozenClassifier(network.eval(), name="test", output=output)


def smooth_classifier(output: Output) -> FrozenClassifier:
    """A small network of twice differentiable parts, in float64."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3, 2), nn.Tanh(), nn.Conv2d(4, 5, 3, 2), nn.Tanh()
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))
    return classifier_of(network, output).double()


def decision_log_odds(classifier: FrozenClassifier, decided: Tensor, logits: Tensor) -> Tensor:
    return classifier.log_odds(logits, classifier.decide(decided))


def test_log_odds_of_one_class_are_those_of_its_probability() -> None:
    decided, logits = torch.randn(2, 50, 7, dtype=torch.float64)
    p = logits.softmax(-1)[torch.arange(50), decided.argmax(-1)]
    found = decision_log_odds(classifier_of(nn.Identity()), decided, logits)
    torch.testing.assert_close(found, (p / (1 - p)).log())


def test_log_odds_of_labels_are_the_sum_of_each_decision() -> None:
    decided, logits = torch.randn(2, 50, 7, dtype=torch.float64)
    p = torch.where(decided > 0, logits.sigmoid(), 1 - logits.sigmoid())
    found = decision_log_odds(classifier_of(nn.Identity(), "sigmoid"), decided, logits)
    torch.testing.assert_close(found, (p / (1 - p)).log().sum(-1))


def test_log_odds_do_not_saturate() -> None:
    logits = torch.tensor([[200.0, 0.0, -10.0]], requires_grad=True)
    torch.autograd.backward(decision_log_odds(classifier_of(nn.Identity()), logits, logits).sum())
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0], torch.tensor(1.0))
    assert logits.grad[0, 1] < -0.99


def log_odds_of_mask(
    classifier: FrozenClassifier, image: Tensor, mask: Tensor, decided: Tensor
) -> Tensor:
    view = perturb(image, mask, blurred(image))
    network = classifier.network((view - classifier.mean) / classifier.std)
    return decision_log_odds(classifier, decided, network)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_gradients_are_those_of_finite_differences(output: Output) -> None:
    classifier = smooth_classifier(output)
    images = torch.rand(2, 3, 16, 17, dtype=torch.float64)
    found = extract_signals(images, classifier, LEVELS, ()).gradients
    assert found.shape == (2, 3, 16, 17)
    step = 1e-4
    for index in range(2):
        image = images[index : index + 1]
        decided = classifier.network((image - classifier.mean) / classifier.std)
        for level, value in enumerate(LEVELS):
            expected = torch.empty(16, 17, dtype=torch.float64)
            for pixel in range(16 * 17):
                ends = []
                for sign in (1, -1):
                    mask = torch.full((1, 16, 17), value, dtype=torch.float64)
                    mask.view(-1)[pixel] += sign * step
                    ends.append(log_odds_of_mask(classifier, image, mask, decided))
                expected.view(-1)[pixel] = ((ends[0] - ends[1]) / (2 * step)).item()
            weights = torch.tensor([[1.0, 2.0, 1.0]], dtype=torch.float64)
            framed = F.pad(expected[None, None], (1, 1, 1, 1), mode="replicate")
            expected = F.conv2d(framed, (weights * weights.T / 16)[None, None])[0, 0]
            expected = (expected / expected.std()).clamp(-10, 10)
            torch.testing.assert_close(found[index, level], expected, rtol=1e-2, atol=1e-2)


def test_a_stride_leaves_no_grid_in_the_gradients() -> None:
    weights = torch.ones(1, 3, 1, 1)  # sees every other pixel of every other row alone
    strided = nn.Conv2d(3, 1, 1, stride=2, bias=False)
    strided.weight = nn.Parameter(weights)
    network = nn.Sequential(strided, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    images = torch.ones(1, 3, 16, 16)
    images[..., 8:] = 0.5  # or the blur would be the image itself
    inner = extract_signals(images, classifier_of(network), (1.0,), ()).gradients[0, 0, 2:-2]
    torch.testing.assert_close(inner[:-1], inner[1:])


def test_features_are_those_of_the_whole_image() -> None:
    torch.manual_seed(0)
    network = DigitNet()
    images = torch.rand(3, 3, 48, 48)
    signals = extract_signals(images, classifier_of(network), LEVELS, ["4", "1"])
    torch.testing.assert_close(signals.logits, network(images), rtol=1e-4, atol=1e-5)
    expected = nn.Sequential(*list(network.children())[:5])(images)
    torch.testing.assert_close(signals.features["4"], expected, rtol=1e-4, atol=1e-5)
    assert signals.features["1"].shape == (3, 24, 24, 24)
    assert not any(map.requires_grad for map in signals.features.values())


def test_signals_are_the_same_in_inference_mode_and_for_each_image_alone() -> None:
    classifier = blob_classifier()
    images = blobs(4)
    together = extract_signals(images, classifier, LEVELS, ["0"])
    for index in range(4):
        with torch.inference_mode():
            alone = extract_signals(images[index : index + 1] * 1, classifier, LEVELS, ["0"])
        torch.testing.assert_close(together.gradients[index], alone.gradients[0])
        torch.testing.assert_close(together.features["0"][index], alone.features["0"][0])


def test_a_decision_that_nothing_moves_gives_no_gradient_and_no_nan() -> None:
    last = nn.Linear(3, 2)
    nn.init.zeros_(last.weight)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    signals = extract_signals(torch.rand(2, 3, 16, 16), classifier_of(network), LEVELS, ())
    torch.testing.assert_close(signals.gradients, torch.zeros(2, 3, 16, 16))


def test_extraction_leaves_no_hook_and_no_gradient_behind() -> None:
    classifier = blob_classifier()
    extract_signals(blobs(2), classifier, LEVELS, ["0"])
    assert not any(module._forward_hooks for module in classifier.modules())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_the_last_map_of_each_resolution_is_found() -> None:
    found = find_feature_maps(classifier_of(DigitNet()), torch.rand(2, 3, 48, 48))
    assert found == {
        "1": {"channels": 24, "stride": 2},
        "4": {"channels": 48, "stride": 4},
        "7": {"channels": 64, "stride": 8},
    }
    found = find_feature_maps(classifier_of(resnet18()), torch.rand(1, 3, 64, 64))
    assert {name: map["channels"] for name, map in found.items()} == {
        "relu": 64,
        "layer1": 64,
        "layer2": 128,
        "layer3": 256,
        "layer4": 512,
    }


class ChannelsLast(nn.Module):
    """Tokens as (B, h, w, C), as some transformers have them: no feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.tokens = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.tokens(self.stem(images).permute(0, 2, 3, 1))
        return tokens.mean((1, 2))


def test_what_has_its_channels_last_is_no_feature_map() -> None:
    assert list(find_feature_maps(classifier_of(ChannelsLast()), torch.rand(1, 3, 32, 32))) == [
        "stem"
    ]
    # Twelve channels, rows and columns; the map after it shows that channels come last.
    merging = classifier_of(test_feature_taps.ChannelsLast())
    assert find_feature_maps(merging, torch.rand(1, 3, 48, 48)) == {}


def test_windows_that_are_put_into_the_batch_are_no_feature_map() -> None:
    windows = classifier_of(test_feature_taps.Windows())
    assert list(find_feature_maps(windows, torch.rand(2, 3, 32, 32))) == ["patches"]


def test_a_classifier_without_maps_has_none() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))
    assert find_feature_maps(classifier_of(flat), torch.rand(1, 3, 16, 16)) == {}


def test_threads_that_share_a_classifier_see_their_own_feature_maps() -> None:
    torch.manual_seed(0)
    classifier = classifier_of(DigitNet())
    batches = [torch.rand(1 + index % 3, 3, 32, 32) for index in range(30)]
    alone = [extract_signals(images, classifier, LEVELS, ["4"]).features["4"] for images in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda x: extract_signals(x, classifier, LEVELS, ["4"]).features["4"], batches)
        )
    for expected, features in zip(alone, found, strict=True):
        torch.testing.assert_close(features, expected)


def test_extraction_in_threads_leaves_compilation_as_it_was() -> None:
    classifier = classifier_of(DigitNet())
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        calls.append(1)
        return graph

    classifier.network.compile(backend=backend)
    images = torch.rand(2, 3, 32, 32)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda x: extract_signals(x, classifier, LEVELS, ["4"]), [images] * 20))
    assert not calls  # hooks would have it compiled anew each time
    classifier(images)
    assert calls


def test_signals_are_as_exact_under_autocast() -> None:
    classifier, images = blob_classifier(), blobs(2)
    expected = extract_signals(images, classifier, LEVELS, ["0"])
    with torch.autocast("cpu", torch.bfloat16):
        found = extract_signals(images, classifier, LEVELS, ["0"])
    torch.testing.assert_close(found.gradients, expected.gradients)
    torch.testing.assert_close(found.logits, expected.logits)


def test_a_flat_image_gives_no_signal() -> None:
    torch.manual_seed(0)
    signals = extract_signals(
        torch.full((1, 3, 32, 32), 0.5), classifier_of(DigitNet()), LEVELS, []
    )
    assert signals.gradients.abs().max() < 0.1


def test_feature_maps_that_a_classifier_lacks_are_named() -> None:
    with pytest.raises(ValueError, match=r"modules 4, layer9, .*no attribute .layer9"):
        extract_signals(
            torch.rand(1, 3, 32, 32), classifier_of(DigitNet()), LEVELS, ["4", "layer9"]
        )
