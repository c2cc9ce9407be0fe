"""FastSHAP: what it learns are the Shapley values, which brute force over all coalitions gives."""

import math
import sys
from itertools import permutations, product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from benchmarks.fastshap import (
    Budget,
    coalition_values,
    efficient,
    fastshap_loss,
    main,
    sample_coalitions,
    train,
)
from benchmarks.fastshap_method import FastShap, ShapleyNetwork, save_fastshap
from saliency_vae.classifiers import FrozenClassifier, counted_passes
from saliency_vae.data.batch import Batch
from saliency_vae.perturbations import blurred
from tests.conftest import SIZE, blob_classifier, blobs

PLAYERS = 5


def game(members: Tensor) -> Tensor:
    """Values (...) of coalitions (..., PLAYERS): some players help only together."""
    m = members.float()
    alone = m @ torch.tensor([3.0, -1.0, 0.5, 0.0, 1.0])
    return 2 + alone + 4 * m[..., 0] * m[..., 3] - 2 * m[..., 1] * m[..., 2] * m[..., 4]


def exact_shapley(values: dict[tuple[bool, ...], float], players: int) -> Tensor:
    """Mean, over all orders in which the players come, of what each adds when it comes."""
    shapley = torch.zeros(players)
    for order in permutations(range(players)):
        present = [False] * players
        for player in order:
            before = values[tuple(present)]
            present[player] = True
            shapley[player] += values[tuple(present)] - before
    return shapley / math.factorial(players)


def all_coalitions(players: int) -> Tensor:
    return torch.tensor(list(product([False, True], repeat=players)))


def exact(members: Tensor, values: Tensor) -> Tensor:
    keys = [tuple(row) for row in members.tolist()]
    return exact_shapley(dict(zip(keys, values.tolist(), strict=True)), members.shape[1])


def test_coalitions_follow_the_shapley_kernel_in_pairs() -> None:
    drawn = sample_coalitions(20_000, PLAYERS, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2, PLAYERS)
    assert drawn[:, 0].equal(~drawn[:, 1])
    sizes = drawn.sum(2).flatten().bincount(minlength=PLAYERS + 1) / 40_000
    kernel = torch.zeros(PLAYERS + 1)
    for k in range(1, PLAYERS):  # the kernel's weight of a coalition, times their number
        weight = (PLAYERS - 1) / (math.comb(PLAYERS, k) * k * (PLAYERS - k))
        kernel[k] = weight * math.comb(PLAYERS, k)
    torch.testing.assert_close(sizes, kernel / kernel.sum(), atol=0.01, rtol=0)
    small = drawn[:, 0][drawn[:, 0].sum(1) == 1].float().mean(0)
    torch.testing.assert_close(small, torch.full((PLAYERS,), 1 / PLAYERS), atol=0.02, rtol=0)


def test_the_objective_is_least_at_the_shapley_values() -> None:
    members = all_coalitions(PLAYERS)
    expected = exact(members, game(members))
    drawn = sample_coalitions(2000, PLAYERS, torch.Generator().manual_seed(1)).view(1, -1, PLAYERS)
    empty, whole = game(members[:1]), game(members[-1:])
    shapley = torch.zeros(1, PLAYERS, requires_grad=True)
    optimizer = torch.optim.Adam([shapley], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(fastshap_loss(shapley, drawn, game(drawn), empty, whole))
        optimizer.step()
    found = efficient(shapley.detach(), whole - empty)[0]
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
    assert float(found.sum()) == pytest.approx(float(whole - empty), rel=1e-5)


def test_absent_cells_are_blurred_and_the_value_is_the_log_probability() -> None:
    classifier, images = blob_classifier(), blobs(2)
    decisions = classifier.decide(classifier(images))
    coalitions = all_coalitions(4)[[0, 6, 15]].expand(2, -1, -1)
    values = coalition_values(classifier, images, coalitions, decisions)
    half = SIZE // 2
    for n, image in enumerate(images):
        for c, members in enumerate(coalitions[n].tolist()):
            view = blurred(images)[n].clone()
            for cell, present in enumerate(members):
                row, column = half * (cell // 2), half * (cell % 2)
                if present:
                    place = (slice(None), slice(row, row + half), slice(column, column + half))
                    view[place] = image[place]
            log_probability = classifier(view[None])[0].log_softmax(0)[decisions[n].argmax()]
            assert values[n, c].item() == pytest.approx(log_probability.item(), abs=1e-4)


class Checkered(Dataset[Batch]):
    """Four cells with a chequered pattern of random contrast, of which a blur leaves nothing."""

    def __init__(self, number: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        contrast = torch.rand(number, 1, 2, 2, generator=generator)
        pattern = (-1.0) ** (torch.arange(SIZE)[:, None] + torch.arange(SIZE))
        images = 0.5 + 0.5 * F.interpolate(contrast, (SIZE, SIZE)) * pattern
        self.images = (255 * images).expand(-1, 3, -1, -1).to(torch.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Batch:
        return {"image": self.images[index], "index": torch.tensor(index)}


class Contrast(nn.Module):
    """Mean distance of the pixels of each cell from grey, (B, 4)."""

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d((images - 0.5).abs().mean(1), 2).flatten(1)


def contrast_classifier() -> FrozenClassifier:
    """Say class 1 where the contrast is high; cells on the right count half."""
    linear = nn.Linear(4, 2)
    weights = torch.tensor([12.0, 6.0, 12.0, 6.0])
    linear.load_state_dict(
        {"weight": torch.stack([0 * weights, weights]), "bias": torch.tensor([0.0, -6.0])}
    )
    return FrozenClassifier(nn.Sequential(Contrast(), linear), name="contrast")


def test_a_trained_network_gives_the_shapley_values_of_unseen_images(tmp_path: Path) -> None:
    classifier = contrast_classifier()
    torch.manual_seed(0)
    network = ShapleyNetwork((8,), grid=2)
    budget = Budget(passes=64 * 42, images=64, epochs=20)
    with counted_passes() as passes:
        train(network, classifier, Checkered(64, seed=1), budget, batch_size=16, lr=1e-2)
    assert passes.number == budget.passes
    images = Checkered(32, seed=2).images.float() / 255
    decisions = classifier.decide(classifier(images))
    assert 0 < decisions[:, 1].mean() < 1
    members = all_coalitions(4)
    values = coalition_values(classifier, images, members.expand(32, -1, -1), decisions)
    expected = torch.stack([exact(members, of_image) for of_image in values])
    with torch.no_grad():
        found = efficient(network(images), values[:, -1] - values[:, 0])
    spread = (expected - expected.mean(1, keepdim=True)).square().mean().sqrt()
    assert (found - expected).square().mean().sqrt() < 0.4 * spread
    # The corners of the method's map are the values of the cells, up to a constant for each image.
    save_fastshap(network, classifier, tmp_path)
    maps = FastShap(tmp_path)({"image": images}, classifier)
    assert maps.shape == (32, SIZE, SIZE)
    corners = maps[:, :: SIZE - 1, :: SIZE - 1].flatten(1)
    mapped, true = ((of - of.mean(1, keepdim=True)).flatten() for of in (corners, expected))
    assert F.cosine_similarity(mapped, true, dim=0) > 0.9


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_fastshap(ShapleyNetwork((4, 4), grid=2), blob_classifier(), tmp_path)
    return tmp_path


def test_refuses_a_target(saved: Path) -> None:
    classifier, images = blob_classifier(), blobs(2)
    batch: Batch = {"image": images, "target": classifier.decide(classifier(images))}
    with pytest.raises(ValueError, match="Expected images without a target"):
        FastShap(saved)(batch, classifier)


def test_refuses_another_classifier(saved: Path) -> None:
    method = FastShap(saved)
    method({"image": blobs(2)}, blob_classifier())
    with pytest.raises(ValueError, match="Expected the classifier that FastSHAP was trained for"):
        method({"image": blobs(2)}, blob_classifier(seed=1))


def test_refuses_a_directory_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected .* to be written by python -m"):
        FastShap(tmp_path)


def test_folding_leaves_the_values_as_they_were(saved: Path) -> None:
    network = ShapleyNetwork((4, 4), grid=2)
    nn.init.normal_(network.unet.head.weight)
    save_fastshap(network, blob_classifier(), saved)
    with torch.no_grad():
        expected = network.eval()(blobs(2)).view(2, 2, 2)
        maps = FastShap(saved)({"image": blobs(2)}, blob_classifier())
    torch.testing.assert_close(maps[:, :: SIZE - 1, :: SIZE - 1], expected, atol=1e-5, rtol=1e-4)


def test_a_budget_pays_for_whole_pairs() -> None:
    assert Budget(passes=28_800, images=3600, epochs=3).pairs == 1
    assert Budget(passes=28_800, images=1800, epochs=2).pairs == 3
    with pytest.raises(ValueError, match=r"Expected passes >= .* = 8\. Found 7\."):
        _ = Budget(passes=7, images=1, epochs=3).pairs


def test_the_command_trains_for_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def tiny(path: str, image_size: int) -> FrozenClassifier:
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 10))
        return FrozenClassifier(pooled, name="tiny")

    monkeypatch.setitem(main.__globals__, "cluttered_digits_classifier", tiny)
    line = (
        f"fastshap digits {tmp_path} --image-size 32 --images 32 --epochs 1 --passes 200 --grid 4"
    )
    monkeypatch.setattr(sys, "argv", line.split())
    main()
    assert "192 passes of the classifier" in capsys.readouterr().out  # 32 x (2 + 2 x 2)
    method = FastShap(tmp_path)
    assert method.config["passes"] == 192
    assert {"images", "epochs", "pairs", "minutes", "seed", "sha256"} <= method.config.keys()
