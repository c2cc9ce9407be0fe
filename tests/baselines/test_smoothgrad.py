"""SmoothGrad and VarGrad against a loop, and what they must be of known functions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.baselines import SmoothGrad, VarGrad
from saliency_vae.classifiers import FrozenClassifier


class Squares(nn.Module):
    """Sum of the squares of the pixels, whose gradient is twice the image, and its negative."""

    def forward(self, images: Tensor) -> Tensor:
        total = images.square().sum((1, 2, 3))
        return torch.stack([total, -total], dim=1)


def network() -> FrozenClassifier:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 6 * 7, 3))
    return FrozenClassifier(nn.Sequential(*layers), name="small")


def test_as_a_loop_over_images_and_copies() -> None:
    classifier, images = network(), torch.rand(3, 3, 8, 9)
    target = torch.eye(3)[[2, 0, 1]]
    generator = torch.Generator().manual_seed(5)
    noise = [0.2 * torch.randn(3, 8, 9, generator=generator) for _ in range(7)]
    mean, variance = [], []
    for image, asked in zip(images, target, strict=True):
        gradients = []
        for one in noise:
            noisy = (image + one)[None].requires_grad_()
            (classifier(noisy)[0] * asked).sum().backward()
            assert noisy.grad is not None
            gradients.append(noisy.grad[0].double())
        mean.append(torch.stack([g.abs() for g in gradients]).mean(0).sum(0))
        variance.append(torch.stack(gradients).var(0, correction=0).sum(0))
    batch: Any = {"image": images, "target": target}
    smooth = SmoothGrad(7, 0.2, seed=5)(batch, classifier)
    torch.testing.assert_close(smooth.double(), torch.stack(mean), rtol=1e-5, atol=1e-6)
    varied = VarGrad(7, 0.2, seed=5)(batch, classifier)
    torch.testing.assert_close(varied.double(), torch.stack(variance), rtol=1e-4, atol=1e-7)


def test_of_squares_they_are_known() -> None:
    """The gradient of a noisy image is 2 (x + noise): its variance is 4 times the noise's."""
    classifier = FrozenClassifier(Squares(), name="squares")
    images = torch.full((1, 3, 40, 40), 0.5)
    found = VarGrad(50, 0.1)({"image": images}, classifier)
    assert float(found.mean()) == pytest.approx(3 * 4 * 0.1**2 * 49 / 50, rel=0.03)
    plain = SmoothGrad(3, 0.0)({"image": images}, classifier)
    torch.testing.assert_close(plain, torch.full((1, 40, 40), 3.0))


@pytest.mark.parametrize("method", [SmoothGrad(4), VarGrad(4)])
def test_an_image_has_the_same_map_in_any_batch(method: SmoothGrad | VarGrad) -> None:
    classifier, images = network(), torch.rand(5, 3, 8, 9)
    together = method({"image": images}, classifier)
    alone = torch.cat([method({"image": image[None]}, classifier) for image in images])
    torch.testing.assert_close(together, alone)


def test_a_pass_each_copy() -> None:
    classifier, seen = network(), []
    classifier.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    SmoothGrad(6)({"image": torch.rand(2, 3, 8, 9), "target": torch.eye(3)[:2]}, classifier)
    assert seen == [2] * 6


def test_wrong_numbers_are_one_line() -> None:
    for wrong in ({"samples": 0}, {"stddev": -1.0}, {"stddev": float("nan")}):
        with pytest.raises(ValueError, match=r"Expected samples >= 1 and stddev >= 0. Found"):
            SmoothGrad(**wrong)
