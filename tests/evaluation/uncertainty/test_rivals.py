"""Published uncertainties against slow references, and where it is known what they must be."""

import math

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.baselines.rise import enlarge
from saliency_vae.classifiers import FrozenClassifier, counted_passes
from saliency_vae.data import Batch
from saliency_vae.evaluation.uncertainty.conformal import LEVEL, rank_regions, undecided
from saliency_vae.evaluation.uncertainty.member_disagreement import MemberDisagreement, has_members
from saliency_vae.evaluation.uncertainty.relax import mask_sums
from saliency_vae.evaluation.uncertainty.repeat import repeat_uncertainty
from saliency_vae.evaluation.uncertainty.rivals import (
    ENSEMBLE,
    RELAX,
    REPEAT,
    VARGRAD,
    Rival,
    relax_and_repeat,
    rival_uncertainties,
)
from saliency_vae.models import load_explainer
from saliency_vae.models.ensemble import Ensemble
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.perturbations import perturb
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer

SIDE = 16


def corner(weight: float) -> FrozenClassifier:
    """Class 1 the more probable, the brighter the upper left quarter."""
    weights = torch.zeros(2, 3, SIDE, SIDE)
    weights[1, :, : SIDE // 2, : SIDE // 2] = weight
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 2))
    network.load_state_dict({"1.weight": weights.flatten(1), "1.bias": torch.tensor([0.0, -1.0])})
    return FrozenClassifier(network, name="corner")


def batch_of(images: Tensor) -> Batch:
    return {"image": images, "decision": torch.tensor([[0.0, 1.0]]).repeat(len(images), 1)}


def test_relax_against_a_loop_over_masks() -> None:
    images, classifier = torch.rand(2, 3, SIDE, SIDE), corner(0.05)
    with counted_passes() as passes:
        found = mask_sums(batch_of(images), classifier, masks=70, seed=3)
    assert passes.number == 2 * 70
    generator = torch.Generator().manual_seed(3)
    cells = (torch.rand(70, 7, 7, generator=generator) < 0.5).float()
    masks = enlarge(cells, torch.rand(70, 2, generator=generator), SIDE, SIDE)
    for image, of_image, mean in zip(images, found.variance, found.importance, strict=True):
        answered = torch.stack(
            [
                classifier(perturb(image[None], mask[None], classifier.mean)).softmax(1)[0, 1]
                for mask in masks
            ]
        ).detach()
        for row, column in ((0, 0), (3, 9), (15, 15)):
            shown = masks[:, row, column]
            expected = float((answered * shown).sum() / shown.sum())
            varied = float(((answered - expected).square() * shown).sum() / shown.sum())
            assert float(mean[row, column]) == pytest.approx(expected, rel=1e-4)
            assert float(of_image[row, column]) == pytest.approx(varied, rel=1e-3)


def test_relax_is_certain_where_seeing_a_pixel_settles_the_answer() -> None:
    images = torch.ones(1, 3, SIDE, SIDE)
    uncertainty = mask_sums(batch_of(images), corner(0.05), masks=600, seed=0).variance[0]
    half = SIDE // 2
    assert uncertainty[:half, :half].mean() < 0.95 * uncertainty[half:, half:].mean()
    constant = mask_sums(batch_of(images), corner(0.0), masks=20, seed=0).variance
    torch.testing.assert_close(constant, torch.zeros_like(constant), atol=1e-7, rtol=0)


def test_repeat_is_uncertain_of_pixels_that_some_repeats_alone_find() -> None:
    """The first five pixels are always among the top ten, the next five in every other repeat."""
    maps = torch.zeros(4, 1, 10, 10)
    maps[:, 0, 0, :5], maps[::2, 0, 1, :5], maps[1::2, 0, 2, :5] = 2, 1, 1
    found = repeat_uncertainty(maps)
    expected = torch.zeros(1, 10, 10)
    expected[0, 1:3, :5] = 1 / 4
    torch.testing.assert_close(found, expected)


def test_relax_and_repeat_share_masks_but_are_what_they_are_alone() -> None:
    batch, classifier = batch_of(torch.rand(2, 3, SIDE, SIDE)), corner(0.05)
    with counted_passes() as passes:
        found = relax_and_repeat(batch, classifier, masks=60, repeats=3)
    assert passes.number == 2 * 60
    alone = [mask_sums(batch, classifier, masks=20, seed=seed) for seed in range(3)]
    maps = torch.stack([repeat.importance for repeat in alone])
    torch.testing.assert_close(found[REPEAT], repeat_uncertainty(maps))
    shown, total, squares = (
        torch.stack([getattr(repeat, name) for repeat in alone]).sum(0)
        for name in ("shown", "total", "squares")
    )
    expected = squares / shown - (total / shown).square()
    torch.testing.assert_close(found[RELAX], expected.float())


def test_members_disagree_by_the_spread_of_their_means() -> None:
    explainer = load_explainer("universal", blob_classifier())
    batch, encoder = batch_of(blobs(2)), explainer.encoder
    assert has_members(explainer)
    assert isinstance(encoder, UniversalUNet)
    found = MemberDisagreement(explainer)(batch, blob_classifier())
    signals = encoder.signals(batch["image"], blob_classifier())
    means = encoder.of_members(batch["image"], signals)[:, :, 0]
    torch.testing.assert_close(means.mean(0), explainer(batch["image"]).mean, atol=1e-4, rtol=1e-4)
    expected = sum((one - means.mean(0)).square() for one in means) / len(means)
    torch.testing.assert_close(found, expected.sqrt(), atol=1e-4, rtol=1e-3)
    assert isinstance(encoder.unet, Ensemble)
    for member in encoder.unet:
        member.load_state_dict(encoder.unet[0].state_dict())
    same = MemberDisagreement(explainer)(batch, blob_classifier())
    assert found.mean() > 0.01 > same.max()


def test_rivals_by_name() -> None:
    universal = load_explainer("universal", blob_classifier())
    batch, classifier = batch_of(blobs(2)), blob_classifier()

    def names(rivals: list[Rival]) -> set[str]:
        return {name for rival in rivals for name in rival(batch, classifier)}

    assert names(rival_uncertainties(universal, None)) == {REPEAT, RELAX, ENSEMBLE}
    one = trained_explainer(encoder=UNET)
    still = rival_uncertainties(one, lambda batch, classifier: batch["image"].mean(1))
    assert names(still) == {REPEAT, RELAX, VARGRAD}


def noisy_ranks(images: int, pixels: int) -> tuple[Tensor, Tensor]:
    """Ranks whose first half is right, and whose other half is in random order."""
    rank = torch.stack([torch.randperm(pixels) for _ in range(images)])
    half, right = pixels // 2, rank.clone()
    for image in range(images):
        wrong = rank[image] >= half
        right[image, wrong] = half + torch.randperm(pixels - half)
    return rank, right


def test_conformal_regions_are_wide_where_ranks_are_wrong_and_keep_their_promise() -> None:
    torch.manual_seed(0)
    rank, right = noisy_ranks(40, 600)
    regions = rank_regions(rank, right)
    assert (regions.half_width[rank < 300] == 0).all()
    assert (regions.half_width[rank >= 300] > 0.1).all()
    certain = torch.arange(600) < 300
    assert (regions.covered >= certain.float().mean()).all()
    of_wrong = 2 * regions.covered.mean() - 1  # all of the others are covered
    assert LEVEL - 0.03 < of_wrong < LEVEL + 0.06


def test_conformal_regions_against_a_loop() -> None:
    torch.manual_seed(1)
    rank, right = noisy_ranks(11, 200)
    regions = rank_regions(rank, right)
    for image, pixel in ((0, 3), (1, 150), (10, 199)):
        others = [other for other in range(11) if (other - image) % 2]
        number = int(rank[image, pixel]) * 50 // 200
        errors = sorted(
            abs(int(rank[other, place]) - int(right[other, place])) / 200
            for other in others
            for place in range(200)
            if int(rank[other, place]) * 50 // 200 == number
        )
        order = math.ceil(LEVEL * (len(others) + 1) / len(others) * len(errors))
        expected = errors[order - 1]
        assert float(regions.half_width[image, pixel]) == pytest.approx(expected)


def test_conformal_regions_are_not_calibrated_on_the_group_that_they_judge() -> None:
    """Two views of each thing: alternate images would be calibrated on each other."""
    torch.manual_seed(2)
    rank, right = noisy_ranks(20, 200)
    things = torch.arange(20) // 2
    regions = rank_regions(rank, right, things)
    assert (regions.half_width < 1).any()
    for thing in range(10):
        judged = things == thing
        scrambled = right.clone()
        scrambled[judged] = right[judged].flip(1)  # the thing's own errors do not count
        again = rank_regions(rank, scrambled, things)
        assert torch.equal(regions.half_width[judged], again.half_width[judged])


def test_conformal_regions_of_few_images_promise_nothing() -> None:
    rank, right = noisy_ranks(6, 100)
    regions = rank_regions(rank, right)
    assert (regions.half_width == 1).all()
    assert (regions.covered == 1).all()


def test_what_lies_over_the_threshold_is_undecided() -> None:
    rank = torch.arange(100).expand(20, 100)
    reach = undecided(rank_regions(rank, rank), rank, number=10)
    assert int(reach[0].argmax()) in (9, 10)
    assert (reach < 0).all()  # right ranks leave nothing undecided
