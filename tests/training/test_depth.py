"""What is held for images like those of the validation."""

import pytest
import torch
from scipy.stats import chi2  # type: ignore[import-untyped]
from torch import Tensor

from saliency_vae.models.depth import Depth
from saliency_vae.training.depth import fit_depth

MIX = torch.eye(4) + 0.2 * torch.randn(4, 4, generator=torch.Generator().manual_seed(9))


def features(number: int, seed: int) -> Tensor:
    """Of a normal distribution that is neither centred nor round."""
    drawn = torch.randn(number, 4, generator=torch.Generator().manual_seed(seed))
    return 3 + drawn @ MIX


def share_out_of_depth(depth: Depth, found: Tensor) -> float:
    return float(depth(found).float().mean())


def test_one_in_twenty_like_those_of_the_validation_is_out_of_depth() -> None:
    depth = Depth(4)
    with torch.inference_mode():  # as in a validation
        fit_depth(depth, features(4000, seed=0))
    assert float(depth.farthest) == pytest.approx(chi2.ppf(0.95, df=4), rel=0.05)
    assert share_out_of_depth(depth, features(4000, seed=1)) == pytest.approx(0.05, abs=0.015)
    direction = torch.randn(200, 4, generator=torch.Generator().manual_seed(2))
    far = 3 + 6 * direction / direction.norm(dim=1, keepdim=True) @ MIX
    assert share_out_of_depth(depth, far) == 1


@pytest.mark.parametrize("number", [20, 60])
def test_few_images_of_many_features_raise_no_more_alarms(number: int) -> None:
    """Their own distances would be too short, because mean and covariance are fitted to them."""
    depth = Depth(48)
    generator = torch.Generator().manual_seed(0)
    fit_depth(depth, torch.randn(number, 48, generator=generator))
    assert share_out_of_depth(depth, torch.randn(2000, 48, generator=generator)) < 0.15


def test_fewer_than_twenty_do_not_tell() -> None:
    depth = Depth(4)
    fit_depth(depth, features(19, seed=0))
    assert not depth.is_known
    assert share_out_of_depth(depth, 1e3 * features(5, seed=1)) == 0
    fit_depth(depth, features(20, seed=0))
    assert depth.is_known
