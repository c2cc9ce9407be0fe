"""Agreement through masks against loops, and where it is known."""

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.metrics.agreement import kept_agreement, mask_agreement_matrix, own_mask_advantage
from saliency_vae.metrics.imputation import InPainting
from tests.conftest import SIZE, blob_classifier

N, FRACTIONS = 9, (0.05, 0.2, 0.5, 1.0)


def random_classifier(output: Output) -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 2))
    return FrozenClassifier(network, name="random", output=output, mean=(0.5,) * 3)


def draw() -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(0)
    images = torch.rand(N, 3, SIZE, SIZE, generator=noise)
    return images, torch.randn(N, SIZE, SIZE, generator=noise)


def quarters() -> tuple[Tensor, Tensor]:
    """Images of four classes, and the bright square that alone decides each."""
    masks = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    for quarter in range(4):
        top, left = divmod(quarter, 2)
        masks[quarter, 8 * top + 2 : 8 * top + 6, 8 * left + 2 : 8 * left + 6] = True
    return 0.2 + 0.7 * masks[:, None].expand(-1, 3, -1, -1), masks


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_kept_agreement_equals_a_loop(output: Output) -> None:
    model, (images, saliency) = random_classifier(output), draw()
    baseline = images.flip(0)
    fast = kept_agreement(model, images, saliency, baseline, fractions=FRACTIONS, batch_size=7)
    slow = torch.empty(N, len(FRACTIONS), dtype=torch.bool)
    for i in range(N):
        for j, fraction in enumerate(FRACTIONS):
            k = round(fraction * SIZE * SIZE)
            view = baseline[i].clone()
            for pixel in saliency[i].flatten().argsort(descending=True)[:k].tolist():
                view[:, pixel // SIZE, pixel % SIZE] = images[i, :, pixel // SIZE, pixel % SIZE]
            logits = model(torch.stack([images[i], view]))
            slow[i, j] = model.agreement(logits[:1], logits[1:])[0]
    assert torch.equal(fast, slow)
    assert 0 < fast[:, :3].float().mean() < 1
    assert fast[:, 3].all()


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_matrix_equals_a_loop(output: Output) -> None:
    model, (images, saliency) = random_classifier(output), draw()
    masks, baseline = saliency > 0.3, images.flip(0)
    fast = mask_agreement_matrix(model, images, masks, baseline, batch_size=7)
    slow = torch.empty(N, N, dtype=torch.bool)
    for i in range(N):
        for j in range(N):
            view = torch.where(masks[j], images[i], baseline[i])
            logits = model(torch.stack([images[i], view]))
            slow[i, j] = model.agreement(logits[:1], logits[1:])[0]
    assert torch.equal(fast, slow)
    assert 0 < fast.float().mean() < 1


def test_imputations_see_the_pixels_that_are_kept() -> None:
    model, (images, saliency) = random_classifier("softmax"), draw()
    imputation = InPainting()
    fast = kept_agreement(model, images, saliency, imputation, fractions=FRACTIONS, batch_size=7)
    decided = model.decide(model(images))
    for column, fraction in enumerate(FRACTIONS):
        k = round(fraction * SIZE * SIZE)
        kept = saliency >= saliency.flatten(1).topk(k).values[:, -1, None, None]
        slow = model.keeps_decision(model(imputation(images, kept)), decided)
        assert torch.equal(fast[:, column], slow)
    masks = saliency > 0.3
    matrix = mask_agreement_matrix(model, images, masks, imputation, batch_size=7)
    for column in range(N):
        views = imputation(images, masks[column].expand(N, -1, -1))
        assert torch.equal(matrix[:, column], model.keeps_decision(model(views), decided))
    assert 0 < matrix.float().mean() < 1


def test_truth_agrees_and_its_opposite_does_not() -> None:
    images, masks = quarters()
    arguments = blob_classifier(), images
    dark = torch.zeros_like(images)
    assert kept_agreement(*arguments, masks.float(), dark, fractions=[16 / 256]).all()
    misled = kept_agreement(*arguments, masks.roll(1, 0).float(), dark, fractions=[16 / 256])
    assert not misled.any()


def test_only_the_own_mask_serves() -> None:
    images, masks = quarters()
    dark = torch.zeros_like(images)
    matrix = mask_agreement_matrix(blob_classifier(), images, masks, dark)
    assert torch.equal(matrix, torch.eye(4).bool())
    assert own_mask_advantage(matrix).tolist() == [1, 1, 1, 1]


def test_advantage_is_the_diagonal_less_the_rest() -> None:
    matrix = torch.rand(6, 6, generator=torch.Generator().manual_seed(0)) > 0.4
    own = [float(matrix[i, i]) for i in range(6)]
    wrong = [float(matrix[i, j]) for i in range(6) for j in range(6) if i != j]
    expected = sum(own) / 6 - sum(wrong) / 30
    assert float(own_mask_advantage(matrix).mean()) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"^Expected at least 2 images.* Found 1\.$"):
        own_mask_advantage(matrix[:1, :1])
