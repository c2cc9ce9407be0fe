"""Baselines that remove information, and the blend with the image."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from saliency_vae.perturbations import Blur, Constant, Mean, Mixture, Noise, Other, blurred, perturb
from tests.helpers import reference

few = settings(deadline=None, max_examples=10, derandomize=True)
BASELINES: dict[str, nn.Module] = {
    "blur": Blur(2.0),
    "mean": Mean(),
    "noise": Noise(),
    "constant": Constant((0.1, 0.5, 1.0)),
    "mixture": Mixture([Blur(2.0), Mean(), Noise()]),
}


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_perturb_keeps_what_the_mask_keeps() -> None:
    images, baseline = random_images(2, 3, 5, 7), random_images(2, 3, 5, 7, seed=1)
    assert torch.equal(perturb(images, torch.ones(2, 5, 7), baseline), images)
    assert torch.equal(perturb(images, torch.zeros(2, 5, 7), baseline), baseline)
    mask = random_images(2, 5, 7, seed=2)
    m = mask[:, None]
    torch.testing.assert_close(perturb(images, mask, baseline), m * images + (1 - m) * baseline)
    hard = mask > 0.5
    mixed = perturb(images, hard, baseline)
    assert torch.equal(mixed, torch.where(hard[:, None], images, baseline))


def test_perturb_passes_gradient_to_the_mask() -> None:
    images, baseline = random_images(2, 3, 5, 7), random_images(2, 3, 5, 7, seed=1)
    mask = torch.full((2, 5, 7), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(perturb(images, mask, baseline).sum(), mask)
    torch.testing.assert_close(gradient, (images - baseline).sum(1))


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_is_an_image(name: str) -> None:
    images = random_images(4, 3, 9, 14)
    before = images.clone()
    result = BASELINES[name](images)
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.min() >= 0
    assert result.max() <= 1 + 1e-6
    assert not torch.equal(result, images)
    assert torch.equal(images, before)


@few
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    sigma=st.floats(0.3, 8),
    seed=st.integers(0, 99),
)
def test_blur_equals_loops(height: int, width: int, sigma: float, seed: int) -> None:
    images = random_images(2, 3, height, width, seed=seed)
    expected = torch.stack(
        [torch.stack([reference.gaussian_blur(c, sigma) for c in image]) for image in images]
    )
    torch.testing.assert_close(Blur(sigma)(images).double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 8.0, 1000.0])
def test_blur_keeps_constants(sigma: float) -> None:
    images = torch.tensor([0.0, 0.3, 1.0])[None, :, None, None].expand(2, 3, 48, 31)
    torch.testing.assert_close(Blur(sigma)(images), images, rtol=0, atol=1e-5)


def test_blur_is_a_sixth_of_the_shorter_side_by_default() -> None:
    images = torch.rand(2, 3, 24, 36)
    assert torch.equal(Blur()(images), Blur(4.0)(images))
    assert torch.equal(blurred(images), Blur(4.0)(images))


def test_an_export_leaves_no_tensor_of_its_own_behind() -> None:
    images = torch.rand(2, 3, 19, 23)
    torch.export.export(Blur(2.0), (images,))
    assert type(Blur(2.0)(images)) is Tensor


def test_a_blur_first_used_for_inference_can_be_trained_through_later() -> None:
    blur, images = Blur(2.0), torch.rand(2, 3, 17, 17)
    with torch.inference_mode():
        blur(images)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(blur(images).sum(), images)
    assert gradient.sum() == pytest.approx(images.numel(), rel=1e-5)  # the weights sum to 1


def test_mean() -> None:
    images = random_images(2, 3, 5, 7)
    result = Mean()(images)
    for i in range(2):
        for c in range(3):
            expected = sum(images[i, c].flatten().tolist()) / 35
            torch.testing.assert_close(result[i, c], torch.full((5, 7), expected))


def test_noise() -> None:
    torch.manual_seed(0)
    images = 0.5 + 0.01 * random_images(2, 3, 200, 100)
    result = Noise(0.1)(images)
    deviation = result - images.mean((2, 3), keepdim=True)
    assert abs(float(deviation.mean())) < 5 * 0.1 / math.sqrt(deviation.numel())
    assert float(deviation.std()) == pytest.approx(0.1, rel=0.02)
    flat = deviation.flatten(2).flatten(0, 1)
    off_diagonal = flat.corrcoef() - torch.eye(6)  # images and colours are independent
    assert off_diagonal.abs().max() < 5 / math.sqrt(200 * 100)
    wide = Noise(5.0)(images)
    assert wide.min() == 0
    assert wide.max() == 1
    torch.testing.assert_close(Noise(0)(images), Mean()(images))


def test_constant() -> None:
    result = Constant((0.25, 0.5, 1.0))(random_images(2, 3, 5, 7))
    for c, value in enumerate((0.25, 0.5, 1.0)):
        assert (result[:, c] == value).all()
    assert (Constant()(random_images(2, 3, 5, 7)) == 0).all()


def test_other_is_another_image_of_the_batch() -> None:
    images = random_images(3, 3, 4, 5)
    others = Other()(images)
    assert torch.equal(others, images[[2, 0, 1]])
    torch.manual_seed(0)
    mixture = Mixture([Other(), Mean()], [1, 1])
    drawn = torch.stack([mixture(images) for _ in range(20)])  # at times for one image of three
    assert not (drawn == images).all((2, 3, 4)).any()


def test_mixture_draws_for_each_image() -> None:
    torch.manual_seed(0)
    count = 4000
    images = random_images(count, 3, 2, 2)
    black, white = Constant((0, 0, 0)), Constant((1, 1, 1))
    for weights, expected in ((None, 1 / 3), ((1.5, 1.0, 3.5), 1 / 6)):
        result = Mixture([black, white, Mean()], weights)(images).flatten(1)
        is_black, is_white = (result == 0).all(1), (result == 1).all(1)
        is_mean = (result == Mean()(images).flatten(1)).all(1)
        assert (is_black.int() + is_white.int() + is_mean.int() == 1).all()
        tolerance = 5 * math.sqrt(expected * (1 - expected) / count)
        assert float(is_white.float().mean()) == pytest.approx(expected, abs=tolerance)


def test_mixture_takes_whole_numbers() -> None:
    images = random_images(2, 3, 4, 4)
    assert Mixture([Mean(), Blur(1)], [1, 3])(images).shape == images.shape


def test_mixture_gives_each_image_its_own_baseline() -> None:
    images = random_images(20, 3, 8, 6)
    torch.testing.assert_close(Mixture([Blur(2.0), Blur(2.0)])(images), Blur(2.0)(images))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blur(0), r"perturbation\.sigma"),
        (lambda: Blur(-1), r"perturbation\.sigma"),
        (lambda: Blur(math.nan), r"perturbation\.sigma"),
        (lambda: Noise(-0.1), r"perturbation\.stddev"),
        (lambda: Constant((0, 0, 1.1)), r"perturbation\.colour"),
        (lambda: Constant((-0.1, 0, 1)), r"perturbation\.colour"),
        (lambda: Constant((math.nan, 0, 1)), r"perturbation\.colour"),
        (lambda: Mixture([]), r"perturbation\.weights"),
        (lambda: Mixture([Mean()], []), r"perturbation\.weights"),
        (lambda: Mixture([Mean()], [1, 1]), r"perturbation\.weights"),
        (lambda: Mixture([Mean(), Blur(1)], [1, 0]), r"perturbation\.weights"),
        (lambda: Mixture([Mean(), Blur(1)], [1, -1]), r"perturbation\.weights"),
    ],
)
def test_wrong_arguments(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_blur_is_as_exact_under_autocast() -> None:
    images = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blurred(images), Blur(20 / 6)(images))
        found = Blur(3.0)(images)
    assert torch.equal(found, Blur(3.0)(images))
