"""Whether maps depend on the image and on the classifier."""

import pytest
import torch
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.data.batch import Batch
from saliency_vae.distributions import DiagonalNormal, KroneckerNormal
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.sanity import (
    check_randomised,
    compare_with_randomised,
    with_own_mask,
)
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.verdicts import Verdict
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.explainer import Explainer
from tests.conftest import blob_classifier, blobs


def own_mask(maps: Tensor, images: Tensor, classifier: FrozenClassifier) -> Tensor:
    scores = with_own_mask(Scores(), {"it": maps}, images, torch.zeros_like(images), classifier)
    return scores.values["own_mask"]["it"]


def test_only_a_mask_that_knows_its_image_is_worth_something() -> None:
    images, classifier = blobs(16), blob_classifier()
    own = own_mask(images.mean(1), images, classifier)
    assert own.shape == (16,)
    assert own.mean() > 0.5
    assert own_mask(images.mean(1).roll(1, 0), images, classifier).mean() < 0.2
    same = images[:1].mean(1).expand(16, -1, -1)
    assert own_mask(same, images, classifier).abs().max() < 1e-6


class Fixed(Explainer):
    """An explainer whose mean is a function of the image."""

    def __init__(self, sha256: str, seed: int | None) -> None:
        super().__init__(nn.Identity(), prior=KroneckerNormal)
        identity = ClassifierIdentity("a", None, "softmax", (0.0,), (1.0,), sha256)
        self.recorded = ExplainerConfig(encoder={}, prior={}, classifier=identity)
        self.seed = seed

    def forward(self, images: Tensor, target: object = None) -> DiagonalNormal:
        mean = images.mean(1)
        if self.seed is not None:
            mean = torch.rand(mean.shape, generator=torch.Generator().manual_seed(self.seed))
        return DiagonalNormal(mean, torch.zeros_like(mean))


def compared(randomised: Fixed, last: int = 3, groups: Tensor | None = None) -> Verdict:
    batches: list[Batch] = [{"image": blobs(8)}, {"image": blobs(last)}]
    resampling = Resampling(groups=groups)
    return compare_with_randomised(batches, Fixed("a", None), randomised, resampling=resampling)


def test_maps_that_differ_pass() -> None:
    found = compared(Fixed("b", seed=1))
    assert found.judgement == "better"
    assert "differ from this explainer's, as they must: Spearman" in found.text


def test_maps_that_resemble_fail() -> None:
    found = compared(Fixed("b", seed=None))
    assert found.judgement == "worse"
    assert (
        "resemble this explainer's, as they must not: Spearman 1.000 [1.000, 1.000], SSIM 1.000"
        in found.text
    )


@pytest.mark.parametrize(("last", "groups", "number"), [(1, None, 9), (3, torch.zeros(11), 1)])
def test_few_independent_images_are_not_judged_by(
    last: int, groups: Tensor | None, number: int
) -> None:
    found = compared(Fixed("b", seed=1), last, groups)
    assert found.judgement == "note"
    assert f"fewer than 10 independent images ({number})" in found.text


def test_the_same_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="of another classifier than the evaluated explainer"):
        check_randomised(Fixed("a", None), Fixed("a", seed=1))
