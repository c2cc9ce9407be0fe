"""Feature maps found in networks of many families: at which strides, of which module, in order."""

import math
from itertools import pairwise
from typing import Any, cast

import pytest
import timm
import torch
from torch import Tensor, nn

from saliency_vae.classifiers.digit_networks import (
    DigitNet,
    ResidualDigitNet,
    digit_network,
)
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.models.feature_taps import Features, as_features, tapped_features
from saliency_vae.models.signals import find_feature_maps
from tests.helpers.digit_transformer import DigitTransformer

Size = tuple[int, int]


def tapped(
    network: nn.Module, size: Size = (64, 64), batch: int = 2
) -> tuple[dict[int, list[Features]], Tensor]:
    """Features that a network shows of random images, and its logits."""
    torch.manual_seed(0)
    images = torch.rand(batch, 3, *size, requires_grad=True)
    with tapped_features(network.eval(), images) as found:
        logits = network(images)
    return found, logits


def shapes(network: nn.Module, size: Size = (64, 64)) -> dict[int, tuple[int, ...]]:
    """Channels, height and width of the last features by stride, finest first."""
    found, _ = tapped(network, size)
    last = {stride: of_stride[-1] for stride, of_stride in sorted(found.items())}
    maps = {stride: features.as_map(features.output) for stride, features in last.items()}
    assert all(len(of_stride) == 2 for of_stride in maps.values())
    return {stride: tuple(of_stride.shape[1:]) for stride, of_stride in maps.items()}


def output_of(network: nn.Module, module: nn.Module, size: Size = (64, 64)) -> Tensor:
    """Output of a module for the images that :func:`tapped` shows."""
    seen: list[Tensor] = []
    hook = module.register_forward_hook(lambda *call: seen.append(call[2]))
    tapped(network, size)
    hook.remove()
    return seen[-1]


def test_a_convolutional_network_shows_its_last_map_of_each_stride() -> None:
    network = DigitNet()
    assert shapes(network, (48, 48)) == {2: (24, 24, 24), 4: (48, 12, 12), 8: (64, 6, 6)}
    found, _ = tapped(network, (48, 48))
    for stride, index in ((2, 1), (4, 4), (8, 7)):
        (features,) = found[stride]
        assert torch.equal(features.output, output_of(network, network[index], (48, 48)))


def test_with_group_norm_the_map_is_that_after_the_addition() -> None:
    network = ResidualDigitNet()
    assert shapes(network) == {2: (16, 32, 32), 4: (48, 16, 16), 8: (64, 8, 8)}
    found, _ = tapped(network)
    assert torch.equal(found[8][0].output, output_of(network, network[4]))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection, and a shortcut, as in MobileNet V2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 1),
            nn.BatchNorm2d(4 * channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(4 * channels, 4 * channels, 3, padding=1, groups=4 * channels),
            nn.BatchNorm2d(4 * channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(4 * channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        return images + cast(Tensor, self.branch(images))


def test_a_depthwise_network_shows_the_narrow_map_behind_the_wide_ones() -> None:
    padded = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 6, 3, stride=2))
    narrower = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(6, 7, 3, stride=2))
    network = nn.Sequential(
        padded,
        InvertedResidual(6),
        narrower,
        InvertedResidual(7),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(7, 4),
    )
    assert shapes(network) == {2: (6, 32, 32), 4: (7, 16, 16)}
    found, _ = tapped(network)
    assert torch.equal(found[2][0].output, output_of(network, network[1]))
    assert torch.equal(found[4][0].output, output_of(network, network[3]))


class SharedActivation(nn.Module):
    """One activation module after every convolution; nothing else runs at a stride last."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 4, 5, 6, 7, 8)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.activation = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        for convolution in self.convolutions:
            images = self.activation(convolution(images))
        return cast(Tensor, self.head(images.mean((-2, -1))))


def test_a_shared_activation_gives_a_map_at_each_stride() -> None:
    network = SharedActivation()
    strides = {2: (4, 32, 32), 4: (5, 16, 16), 8: (6, 8, 8), 16: (7, 4, 4), 32: (8, 2, 2)}
    assert shapes(network) == strides
    found, logits = tapped(network)
    outputs = [features.output for of_stride in found.values() for features in of_stride]
    assert all((output >= 0).all() for output in outputs)  # after the activation
    gradients = torch.autograd.grad(logits.sum(), outputs)
    assert all(gradient.any() for gradient in gradients)


class ChannelsLast(nn.Module):
    """Tokens as (B, h, w, C), merged once, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.first = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 12))
        self.merge = nn.Linear(48, 20)
        self.second = nn.Sequential(nn.LayerNorm(20), nn.Linear(20, 20))
        self.head = nn.Linear(20, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).permute(0, 2, 3, 1)
        tokens = tokens + self.first(tokens)
        corners = [tokens[:, down::2, right::2] for down in (0, 1) for right in (0, 1)]
        merged = self.merge(torch.cat(corners, -1))
        merged = merged + self.second(merged)
        return cast(Tensor, self.head(merged.mean((1, 2))))


@pytest.mark.parametrize("side", [64, 48])  # 48: as many channels as rows and columns at stride 4
def test_a_map_with_its_channels_last_is_found_and_turned(side: int) -> None:
    network, size = ChannelsLast(), (side, side)
    assert shapes(network, size) == {4: (12, side // 4, side // 4), 8: (20, side // 8, side // 8)}
    found, _ = tapped(network, size)
    (features,) = found[4]
    assert features.channels_last
    output = output_of(network, network.first, size)
    turned = features.as_map(features.output)
    for row, column in ((0, 3), (7, 1)):
        assert torch.equal(turned[:, :, row, column], output[:, row, column])


class Windows(nn.Module):
    """Attention within quarters of a map, which are put into the batch, as in ViTDet."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.within = nn.Conv2d(6, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        grid = self.patches(images)
        batch, width, side, _ = grid.shape
        half = side // 2
        windows = grid.view(batch, width, 2, half, 2, half).permute(0, 2, 4, 1, 3, 5)
        windows = self.within(windows.reshape(4 * batch, width, half, half))
        whole = windows.view(batch, 2, 2, width, half, half).permute(0, 3, 1, 4, 2, 5)
        return cast(Tensor, self.head(whole.reshape(batch, width, -1).mean(-1)))


def test_windows_that_are_put_into_the_batch_are_no_map_of_the_images() -> None:
    assert shapes(Windows()) == {4: (6, 16, 16)}


class Averaged(nn.Module):
    """A vision transformer without a class token: its tokens are averaged."""

    def __init__(self, patch: int = 8, width: int = 16, registers: int = 0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.registers = nn.Parameter(torch.randn(1, registers, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 32, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).mT
        tokens = torch.cat([self.registers.expand(len(images), -1, -1), patches], 1)
        return cast(Tensor, self.head(self.norm(self.block(tokens)).mean(1)))


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@pytest.mark.parametrize("registers", [0, 4, 8])
def test_tokens_are_a_grid_in_reading_order(size: Size, registers: int) -> None:
    network = Averaged(registers=registers)
    grid = size[0] // 8, size[1] // 8
    found, logits = tapped(network, size)
    assert list(found) == [8]
    assert found[8][0].extra_tokens is None  # the map that the patches are made of
    tokens = [features for features in found[8] if features.extra_tokens is not None]
    assert [features.extra_tokens for features in tokens] == [registers] * 3  # two norms and one
    output = output_of(network, network.norm, size)
    assert torch.equal(tokens[-1].output, output)
    turned = tokens[-1].as_map(output)
    assert turned.shape == (2, 16, *grid)
    for row, column in ((0, 1), (grid[0] - 1, 2)):
        place = registers + row * grid[1] + column
        assert torch.equal(turned[:, :, row, column], output[:, place])
    (gradient,) = torch.autograd.grad(logits.sum(), tokens[-1].output)
    assert gradient.any()


def test_of_a_class_token_the_features_that_the_logits_depend_on_are_among_those_found() -> None:
    network = DigitTransformer(64)
    found, logits = tapped(network)
    assert list(found) == [2, 4, 8]
    tokens = [features for features in found[8] if features.extra_tokens == 1]
    assert len(tokens) == 2 * 4 + 1
    gradients = torch.autograd.grad(logits.sum(), [features.output for features in tokens])
    of_patches = [
        bool(features.as_map(gradient).any())
        for features, gradient in zip(tokens, gradients, strict=True)
    ]
    # After the last attention, only the class token counts: the norm before the last MLP, and the
    # last norm.
    assert of_patches == [True] * 7 + [False] * 2


TIMM: dict[str, tuple[Size, set[int]]] = {
    "test_resnet": ((64, 64), {4, 8, 16, 32}),
    "test_efficientnet": ((64, 64), {2, 4, 8, 16, 32}),
    "test_convnext": ((64, 64), {4, 8, 16, 32}),
    "test_vit": ((160, 160), {16}),  # with a class token
    "test_vit3": ((160, 160), {16}),  # without
}


@pytest.mark.parametrize("name", TIMM)
def test_networks_of_timm(name: str) -> None:
    size, strides = TIMM[name]
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(name, pretrained=False)
    found = shapes(network, size)
    assert strides <= set(found)
    for stride, (channels, height, width) in found.items():
        assert channels > 4
        assert (height, width) == (size[0] // stride, size[1] // stride)


def test_attention_weights_are_no_map() -> None:
    """Of a single window there are as many as images, and as many rows as columns."""
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=64,
        window_size=2,
        embed_dim=8,
        depths=(1,) * 4,
        num_heads=(1,) * 4,
    )
    assert shapes(network) == {4: (8, 16, 16), 8: (16, 8, 8), 16: (32, 4, 4), 32: (64, 2, 2)}


def test_attention_weights_with_a_bias_are_no_map() -> None:
    """Of the last stage, whose 4x4 tokens are as many as the rows of the map of stride 4."""
    network: nn.Module = timm.create_model("gcvit_xxtiny", img_size=64)
    assert shapes(network)[4] == (64, 16, 16)


def test_heads_of_an_attention_are_no_map() -> None:
    """Each is as wide as there are tokens, so that its tokens look like the rows of a map."""
    network: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=64,
        embed_dim=32,
        num_heads=2,
        depth=1,
        class_token=False,
        global_pool="avg",
        qk_norm=True,
    )
    assert shapes(network) == {16: (32, 4, 4)}
    found = find_feature_maps(FrozenClassifier(network), torch.rand(1, 3, 64, 64))
    assert list(found) == ["patch_embed.proj"]


def test_a_network_without_maps_shows_none() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    assert shapes(flat) == {}


@pytest.mark.parametrize("size", [(48, 48), (50, 66), (63, 97)])
def test_odd_sizes_keep_their_strides(size: Size) -> None:
    assert list(shapes(digit_network("convolutional"), size)) == [2, 4, 8]


SIZES = [(64, 96), (48, 80), (80, 112), (240, 320), (300, 400), (333, 500), (375, 500), (600, 800)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", [0, 1])
def test_maps_of_each_stride_are_found_in_images_of_any_shape(size: Size, padding: int) -> None:
    layers = [nn.Conv2d(3, 3, 2 + padding, stride=2, padding=padding) for _ in range(5)]
    found = list(shapes(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), size))
    assert found == [2, 4, 8, 16, 32] if min(size) // 32 > 1 or padding else [2, 4, 8, 16]


@pytest.mark.parametrize("size", [(299, 400), (224, 320), (320, 224)])
def test_maps_without_padding_are_found_in_images_that_are_not_square(size: Size) -> None:
    layers = [nn.Conv2d(3, 3, 4, stride=2) for _ in range(5)]
    found = shapes(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), size)
    assert list(found) == [2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    "shape",
    [
        (2, 4, 64, 64),  # as large as the image
        (2, 4, 1, 1),
        (2, 4, 16, 8),  # strides differ
        (2, 10, 1, 64),
        (2, 10),
        (2, 35, 12),  # tokens of no grid
        (2, 1, 12),
    ],
)
def test_other_outputs_are_no_features(shape: tuple[int, ...]) -> None:
    assert as_features(torch.rand(shape), (64, 64)) is None


@pytest.mark.parametrize("extra", range(6))
@pytest.mark.parametrize("size", [(64, 64), (48, 80), (224, 224)])
def test_extra_tokens_are_counted(extra: int, size: Size) -> None:
    grid = size[0] // 16, size[1] // 16
    features = as_features(torch.rand(2, math.prod(grid) + extra, 8), size)
    assert features is not None
    assert (features.grid, features.extra_tokens) == (grid, extra)


class Raises(nn.Module):
    """A module that fails."""

    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("broken on purpose")


def hooks(network: nn.Module) -> list[Any]:
    return [hook for module in network.modules() for hook in module._forward_hooks.values()]


def test_hooks_are_removed_even_if_the_network_raises() -> None:
    network = DigitNet()
    tapped(network)
    assert hooks(network) == []
    network.append(Raises())
    with pytest.raises(RuntimeError, match="on purpose"):
        tapped(network)
    assert hooks(network) == []


def test_hooks_of_others_stay() -> None:
    network = DigitNet()
    mine = network[0].register_forward_hook(lambda *call: None)
    tapped(network)
    assert len(hooks(network)) == 1
    mine.remove()
