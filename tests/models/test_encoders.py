"""Encoders: shape in, shape out, the paper's layers, and how far they see."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import nn

from saliency_vae.models.encoders import PaperEncoder, UNet, fold_batch_norm

few = settings(deadline=None, max_examples=8, derandomize=True)
sizes = st.integers(16, 45)
SMALL: dict[str, nn.Module] = {
    "paper": PaperEncoder((4, 3)),
    "unet": UNet((3, 4, 5, 6)),
    "unet with one scale": UNet((4,)),
    "unet with six scales": UNet((2,) * 6),
}


@pytest.mark.parametrize("name", SMALL)
@few
@given(height=sizes, width=sizes, batch=st.integers(1, 3))
def test_keeps_the_size(name: str, height: int, width: int, batch: int) -> None:
    encoder = SMALL[name].eval()
    with torch.no_grad():
        output = encoder(torch.rand(batch, 3, height, width))
    assert output.shape == (batch, 2, height, width)
    assert output.isfinite().all()


@pytest.mark.parametrize("encoder", [PaperEncoder(), UNet()], ids=["paper", "unet"])
def test_defaults_keep_the_size(encoder: nn.Module) -> None:
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 17, 33)).shape == (2, 2, 17, 33)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "shape", [(1, 3, 15, 16), (1, 3, 16, 15), (1, 1, 32, 32), (1, 4, 32, 32), (3, 32, 32)]
)
def test_wrong_images(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"Expected images \(B, 3, H, W\).*Found") as error:
        SMALL[name](torch.rand(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("channels", [(), (8, 0), (-1,)])
def test_wrong_channels(channels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"encoder\.hidden_channels"):
        PaperEncoder(channels)
    with pytest.raises(ValueError, match=r"encoder\.channels"):
        UNet(channels)


def test_paper_layers() -> None:
    encoder = PaperEncoder()
    layers = [layer for layer in encoder.modules() if not list(layer.children())]
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    channels = [layer.out_channels for layer in convolutions]
    assert channels == [64] * 4 + [32] * 5 + [16] * 6 + [2] + [2]
    assert [layer.in_channels for layer in convolutions] == [3, *channels[:-1]]
    for layer in convolutions:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((3, 3), (1, 1), (1, 1))
    # Convolution, norm, ReLU sixteen times; then the last convolution with nothing after it.
    kinds = [type(layer) for layer in layers]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 16 + [nn.Conv2d]
    assert layers[-1] is encoder.head
    assert encoder.head.bias is not None


@pytest.mark.parametrize("kind", [PaperEncoder, UNet])
def test_every_parameter_learns(kind: type[PaperEncoder] | type[UNet]) -> None:
    torch.manual_seed(0)
    encoder = kind()
    nn.init.normal_(encoder.head.weight)  # zero at first, which lets nothing through
    output = encoder(torch.rand(2, 3, 32, 32))
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", [PaperEncoder, UNet])
def test_mean_and_log_variance_take_both_signs(kind: type[PaperEncoder] | type[UNet]) -> None:
    torch.manual_seed(0)
    encoders = [kind((8, 8)) for _ in range(6)]
    for encoder in encoders:
        nn.init.normal_(encoder.head.weight)
    outputs = torch.cat([encoder(torch.rand(2, 3, 16, 16)).detach() for encoder in encoders])
    for channel in outputs.unbind(1):
        assert channel.min() < 0 < channel.max()


def receptive_field(encoder: nn.Module, size: int) -> tuple[int, int]:
    """Height and width of what the central output sees, all weights positive and equal."""
    encoder = copy.deepcopy(encoder).double().eval()
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    images = torch.rand(1, 3, size, size, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(encoder(images)[0, 0, size // 2, size // 2], images)
    seen = (gradient != 0).any(1)[0]
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    return int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1


@pytest.mark.parametrize("revert", [False, True])
def test_batch_norms_that_were_synchronised_are_folded_too(revert: bool) -> None:
    """As ``trainer.sync_batchnorm=true`` leaves them."""
    encoder = UNet((3, 4))
    for _ in range(3):
        encoder(torch.rand(4, 3, 20, 20))
    expected = encoder.eval()(images := torch.rand(2, 3, 20, 20))
    layers = TorchSyncBatchNorm()
    converted = layers.apply(encoder)
    folded = fold_batch_norm(layers.revert(converted) if revert else converted)
    assert folded.state_dict().keys() == fold_batch_norm(UNet((3, 4))).state_dict().keys()
    torch.testing.assert_close(folded(images), expected)


def test_unet_sees_farther_than_the_paper() -> None:
    torch.manual_seed(0)
    paper = receptive_field(PaperEncoder((4,) * 16), 129)  # depth alone decides
    unet = receptive_field(UNet(), 129)
    assert paper == (35, 35)
    assert min(unet) > 35
