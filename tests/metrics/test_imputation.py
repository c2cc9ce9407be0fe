"""Imputations against slow references, and where the answer is known."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import lil_matrix  # type: ignore[import-untyped]
from scipy.sparse.linalg import spsolve  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.metrics import Imputation, InPainting, NoisyLinearImputation

GREY_LEVEL = 1 / 255
SMOOTH = NoisyLinearImputation(noise=0.0)
IMPUTATIONS = (InPainting(), NoisyLinearImputation())
NEIGHBOURS = {
    (down, across): 1 / 6 if 0 in (down, across) else 1 / 12
    for down in (-1, 0, 1)
    for across in (-1, 0, 1)
    if (down, across) != (0, 0)
}


def draw(height: int, width: int, views: int = 1) -> Tensor:
    """Images with detail of every size."""
    noise = torch.Generator().manual_seed(0)
    coarse = torch.rand(views, 3, 3, 3, generator=noise)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")
    return (smooth + 0.2 * torch.randn(views, 3, height, width, generator=noise)).clamp(0, 1)


def masks(height: int, width: int) -> Tensor:
    """Pixels kept at random, in patches, and in one corner: from a few to most."""
    noise = torch.Generator().manual_seed(1)
    scattered = torch.rand(height, width, generator=noise)
    patches = F.interpolate(torch.rand(1, 1, 5, 5, generator=noise), (height, width))[0, 0]
    corner = -(torch.arange(height)[:, None] / height + torch.arange(width) / width)
    return torch.stack(
        [
            values >= values.flatten().quantile(1 - share)
            for values in (scattered, patches, corner)
            for share in (0.02, 0.1, 0.5, 0.9)
        ]
    )


def solved(image: Tensor, kept: Tensor) -> NDArray[np.float64]:
    """One equation for each removed pixel, as in the paper, by a direct sparse solver."""
    pixels = image.double().numpy()
    height, width = kept.shape
    removed = [(int(i), int(j)) for i, j in (~kept).nonzero()]
    number = {pixel: index for index, pixel in enumerate(removed)}
    matrix = lil_matrix((len(removed), len(removed)))
    known = np.zeros((len(removed), 3))
    for row, (i, j) in enumerate(removed):
        for (down, across), weight in NEIGHBOURS.items():
            neighbour = i + down, j + across
            if not (0 <= neighbour[0] < height and 0 <= neighbour[1] < width):
                continue
            matrix[row, row] += weight
            if neighbour in number:
                matrix[row, number[neighbour]] -= weight
            else:
                known[row] += weight * pixels[:, neighbour[0], neighbour[1]]
    found: NDArray[np.float64] = pixels.copy()
    if removed:
        found[:, *np.array(removed).T] = spsolve(matrix.tocsc(), known).reshape(-1, 3).T
    return found


@pytest.mark.parametrize(("height", "width"), [(12, 12), (33, 50)])
def test_linear_imputation_solves_the_equations_of_road(height: int, width: int) -> None:
    kept = masks(height, width)
    image = draw(height, width)
    views = SMOOTH(image.expand(len(kept), -1, -1, -1), kept)
    exact = torch.stack([torch.from_numpy(solved(image[0], mask)) for mask in kept])
    error = (views - exact).abs()
    assert error.max() < GREY_LEVEL
    assert error.mean() < 0.03 * GREY_LEVEL
    assert (InPainting()(image.expand(len(kept), -1, -1, -1), kept) - exact).abs().max() > 0.1


def test_linear_imputation_leaves_less_than_half_a_grey_level_of_residual() -> None:
    kept = masks(96, 128)
    views = SMOOTH(draw(96, 128, len(kept)), kept)
    weighted, total = torch.zeros_like(views), torch.zeros(96, 128)
    for (down, across), weight in NEIGHBOURS.items():
        rows = slice(max(0, down), 96 + min(0, down)), slice(max(0, -down), 96 + min(0, -down))
        columns = (
            slice(max(0, across), 128 + min(0, across)),
            slice(max(0, -across), 128 + min(0, -across)),
        )
        weighted[..., rows[0], columns[0]] += weight * views[..., rows[1], columns[1]]
        total[rows[0], columns[0]] += weight
    residual = (views - weighted / total).abs().amax(1)
    assert residual[~kept].max() < GREY_LEVEL / 2
    assert residual[kept].max() > 0.1


def test_a_ramp_between_kept_borders_is_restored() -> None:
    ramp = torch.linspace(0, 1, 20).expand(1, 3, 24, 20)
    kept = torch.zeros(1, 24, 20, dtype=torch.bool)
    kept[:, :, [0, -1]] = True
    torch.testing.assert_close(
        SMOOTH(ramp * kept[:, None], kept), ramp, atol=GREY_LEVEL / 2, rtol=0
    )


def pushed_pulled(image: Tensor, kept: Tensor) -> Tensor:
    """One pixel after the other: means of four on the way down, bilinear on the way back."""
    height, width = kept.shape
    if height == width == 1:
        return image
    coarse = torch.zeros(3, -(-height // 2), -(-width // 2))
    some = torch.zeros(coarse.shape[1:], dtype=torch.bool)
    for i, j in np.ndindex(*some.shape):
        block = (slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
        if kept[block].any():
            coarse[:, i, j] = image[:, *block][:, kept[block]].mean(1)
            some[i, j] = True
    coarse = pushed_pulled(coarse, some)
    result = image.clone()
    for i, j in (~kept).nonzero().tolist():
        weighted, total = torch.zeros(3), 0
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                if 0 <= i + down < height and 0 <= j + across < width:
                    weight = (2 - abs(down)) * (2 - abs(across))
                    weighted += weight * coarse[:, (i + down) // 2, (j + across) // 2]
                    total += weight
        result[:, i, j] = weighted / total
    return result


@pytest.mark.parametrize(("height", "width"), [(8, 8), (13, 10), (1, 7)])
def test_in_painting_is_push_pull(height: int, width: int) -> None:
    kept = masks(height, width)
    images = draw(height, width, len(kept))
    views = InPainting()(images, kept)
    for view, image, mask in zip(views, images, kept, strict=True):
        torch.testing.assert_close(view, pushed_pulled(image, mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("imputation", IMPUTATIONS)
def test_kept_pixels_stay_and_removed_pixels_do_not_matter(imputation: Imputation) -> None:
    kept = masks(20, 31)
    images = draw(20, 31, len(kept))
    views = imputation(images, kept)
    mask = kept[:, None].expand_as(images)
    assert torch.equal(views[mask], images[mask])
    assert torch.equal(views, imputation(torch.where(mask, images, 1 - images), kept))
    assert (views[~mask] - images[~mask]).abs().mean() > 0.05


@pytest.mark.parametrize("imputation", [InPainting(), SMOOTH])
@pytest.mark.parametrize("size", [(1, 1), (16, 16), (130, 97)])
def test_none_one_and_all_kept(imputation: Imputation, size: tuple[int, int]) -> None:
    images = draw(*size, views=3)
    kept = torch.zeros(3, *size, dtype=torch.bool)
    kept[1, -1, size[1] // 2] = True
    kept[2] = True
    none, one, every = imputation(images, kept)
    mean = images[0].mean((1, 2), keepdim=True).expand_as(none)
    torch.testing.assert_close(none, mean, atol=1e-5, rtol=0)
    colour = images[1, :, -1, size[1] // 2, None, None].expand_as(one)
    torch.testing.assert_close(one, colour, atol=1e-5, rtol=0)
    assert torch.equal(every, images[2])


@pytest.mark.parametrize("imputation", IMPUTATIONS)
def test_a_view_does_not_depend_on_its_batch(imputation: Imputation) -> None:
    kept = masks(16, 19)
    images = draw(16, 19, len(kept))
    with torch.inference_mode():
        together = imputation(images, kept)
    alone = torch.cat([imputation(images[i : i + 1], kept[i : i + 1]) for i in range(len(kept))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_noise_is_the_same_for_all_views_and_only_where_pixels_are_removed() -> None:
    images = torch.full((2, 3, 40, 40), 0.5)
    kept = torch.zeros(2, 40, 40, dtype=torch.bool)
    kept[:, :20] = True
    views = NoisyLinearImputation(noise=0.02)(images, kept)
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[:, :, :20], images[:, :, :20])
    assert float((views[:, :, 20:] - 0.5).std()) == pytest.approx(0.02, rel=0.1)
    assert torch.equal(views, NoisyLinearImputation(noise=0.02)(images, kept))
    assert not torch.equal(views, NoisyLinearImputation(noise=0.02, seed=1)(images, kept))
    loud = NoisyLinearImputation(noise=5.0)(images, kept)
    assert [float(loud.min()), float(loud.max())] == [0, 1]


def test_negative_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Expected noise >= 0\. Found -0\.1\.$"):
        NoisyLinearImputation(noise=-0.1)


def test_the_number_of_threads_stays_as_it_was() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        kept = masks(8, 8)
        SMOOTH(draw(8, 8, len(kept)), kept)
        assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="argument 2"):  # fewer masks than images
            SMOOTH(draw(8, 8, 9), kept[:8])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
