"""The classifier-conditioned encoder: sizes, where maps join, and that all of it learns."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.part_names import to_named, to_node
from saliency_vae.models.signals import ClassifierSignals

FEATURES = {"a": {"channels": 5, "stride": 2}, "b": {"channels": 7, "stride": 32}}
sizes = st.integers(16, 45)


def signals(batch: int, height: int, width: int) -> ClassifierSignals:
    features = {"a": torch.rand(batch, 5, height // 2, width // 2), "b": torch.rand(batch, 7, 1, 2)}
    return ClassifierSignals(torch.rand(batch, 10), torch.rand(batch, 2, height, width), features)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(height=sizes, width=sizes, batch=st.integers(1, 3))
def test_keeps_the_size(height: int, width: int, batch: int) -> None:
    encoder = ConditionalUNet((3, 4, 5), features=FEATURES).eval()
    with torch.no_grad():
        output = encoder(torch.rand(batch, 3, height, width), signals(batch, height, width))
    assert output.shape == (batch, 2, height, width)
    assert output.isfinite().all()


def test_a_map_joins_the_scale_of_its_resolution_or_the_coarsest() -> None:
    encoder = ConditionalUNet((3, 4, 5), features=FEATURES)
    assert encoder.scales == {"a": 1, "b": 2}
    inputs = [block[0][0].in_channels for block in encoder.unet.down]  # type: ignore[index]
    assert inputs == [3 + 2, 3 + 4, 4 + 5]


def test_a_classifier_without_maps_gives_gradients_alone() -> None:
    encoder = ConditionalUNet((3, 4))
    output = encoder(
        torch.rand(2, 3, 16, 16), ClassifierSignals(torch.rand(2, 10), torch.rand(2, 2, 16, 16), {})
    )
    assert output.shape == (2, 2, 16, 16)


def test_every_parameter_learns_and_every_signal_matters() -> None:
    torch.manual_seed(0)
    encoder = ConditionalUNet((3, 4, 5), features=FEATURES)
    nn.init.normal_(encoder.unet.head.weight)  # zero at first, which lets nothing through
    seen = signals(2, 32, 32)
    told: list[Tensor] = [seen.gradients, *seen.features.values()]
    for tensor in told:
        tensor.requires_grad_()
    output = encoder(torch.rand(2, 3, 32, 32), seen)
    (output * torch.randn_like(output)).sum().backward()
    for name, tensor in (*encoder.named_parameters(), *enumerate(told)):
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name


@pytest.mark.parametrize("levels", [(), (0.5,), (0.0, 1.0), (0.5, 0.2, 1.0), (0.5, 1.5)])
def test_wrong_levels(levels: Any) -> None:
    with pytest.raises(ValueError, match=r"encoder\.levels in \(0, 1\], rising to 1\. Found"):
        ConditionalUNet((4,), levels)


@pytest.mark.parametrize("prior_mean_scale", [-0.1, float("nan")])
def test_a_wrong_prior_mean_scale(prior_mean_scale: float) -> None:
    with pytest.raises(ValueError, match=r"encoder\.prior_mean_scale >= 0\. Found"):
        ConditionalUNet((4,), prior_mean_scale=prior_mean_scale)


def test_the_prior_is_about_the_mean_of_the_gradients() -> None:
    seen = signals(2, 16, 16)
    expected = 0.3 * (seen.gradients[:, 0] + seen.gradients[:, 1]) / 2
    torch.testing.assert_close(
        ConditionalUNet((4,), prior_mean_scale=0.3).prior_mean(seen), expected
    )
    assert not ConditionalUNet((4,)).prior_mean(seen).any()


def test_wrong_channels() -> None:
    with pytest.raises(ValueError, match=r"encoder\.channels"):
        ConditionalUNet((4, 0))


def test_feature_maps_of_modules_that_begin_with_an_underscore_can_be_saved() -> None:
    encoder = {
        "_target_": "saliency_vae.models.conditional_encoder.ConditionalUNet",
        "channels": [4, 8],
        "features": {"_blocks.1._bn0": {"channels": 5, "stride": 2}},
    }
    assert to_node("encoder", to_named("encoder", encoder), "file") == encoder
