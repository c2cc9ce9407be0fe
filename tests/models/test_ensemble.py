"""Several networks whose posteriors are averaged."""

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.models.ensemble import Ensemble
from saliency_vae.models.universal_encoder import UniversalUNet
from tests.conftest import blob_classifier, blobs


class Fixed(nn.Module):
    """Gives the same mean and log-variance for every image."""

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        super().__init__()
        self.output = torch.stack([mean, log_variance])[None]

    def forward(self, images: Tensor, joined: list[list[Tensor]]) -> Tensor:
        return self.output.expand(len(images), -1, -1, -1)


def test_mean_and_total_variance_are_those_of_the_mixture() -> None:
    torch.manual_seed(0)
    means, log_variances = torch.randn(3, 2, 4, 4)[:, 0], torch.randn(3, 2, 4, 4)[:, 1]
    ensemble = Ensemble([Fixed(m, v) for m, v in zip(means, log_variances, strict=True)])
    mean, log_variance = ensemble(torch.zeros(2, 3, 4, 4), []).unbind(1)
    noise = torch.randn(3, 200_000, 4, 4)  # as many samples of each member
    samples = (means[:, None] + (log_variances[:, None] / 2).exp() * noise).flatten(0, 1)
    torch.testing.assert_close(mean[1], samples.mean(0), atol=0.01, rtol=0)
    total = log_variance[1].exp().sum()
    torch.testing.assert_close(total, samples.var(0).sum(), atol=0, rtol=0.01)
    share = log_variance[1].exp() / total  # of each pixel, however much the members disagree there
    expected = log_variances.exp().prod(0) ** (1 / 3)
    torch.testing.assert_close(share, expected / expected.sum())


def test_members_read_the_same_signals_and_start_as_the_prior() -> None:
    torch.manual_seed(0)
    images = blobs(2)
    encoder = UniversalUNet((4, 5, 6), copies=1, members=3).eval()
    signals = encoder.signals(images, blob_classifier())
    mean, log_variance = encoder(images, signals).unbind(1)
    torch.testing.assert_close(mean, torch.zeros_like(mean))
    torch.testing.assert_close(log_variance, torch.zeros_like(mean))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    assert isinstance(encoder.unet, Ensemble)
    whole = encoder(images, signals)[:, 0]
    each = []
    for member in encoder.unet:
        alone = UniversalUNet((4, 5, 6), copies=1).eval()
        alone.unet = member  # type: ignore[assignment]
        each.append(alone(images, signals)[:, 0])
    assert not torch.allclose(each[0], each[1])
    torch.testing.assert_close(whole, torch.stack(each).mean(0))


def test_one_member_is_a_plain_network_and_none_is_refused() -> None:
    plain, one = UniversalUNet((4, 5)), UniversalUNet((4, 5), members=1)
    assert plain.state_dict().keys() == one.state_dict().keys()
    with pytest.raises(ValueError, match=r"Expected encoder\.members >= 1\. Found 0\."):
        UniversalUNet((4, 5), members=0)
