"""Several masks of each image in a training step."""

import pytest
import torch

from saliency_vae.objective import MaskedViews, Objective
from saliency_vae.perturbations import Mean
from saliency_vae.topk import SoftTopK
from saliency_vae.training.samples import repeated, stratified
from tests.conftest import MakeModule, blobs


def test_fractions_of_an_image_are_spread_evenly() -> None:
    numbers = stratified(5, 4, torch.device("cpu")).view(4, 5)
    assert ((numbers >= 0) & (numbers < 1)).all()
    gaps = numbers.sort(0).values.diff(dim=0)
    torch.testing.assert_close(gaps, torch.full_like(gaps, 0.25))
    assert len(set(numbers[0].tolist())) == 5


def test_a_batch_is_repeated_as_a_whole() -> None:
    values = torch.arange(6).view(3, 2)
    assert repeated(values, 1) is values
    assert repeated(values, 2)[:, 0].tolist() == [0, 2, 4, 0, 2, 4]


def test_the_loss_of_several_samples_is_the_mean_of_the_loss_of_each(
    make_module: MakeModule,
) -> None:
    objective = Objective(SoftTopK((0.2, 0.5), 0.1), Mean(), beta=0.3, complement=0.7, samples=3)
    module = make_module(objective=objective)
    seen: list[MaskedViews] = []
    whole = Objective.__call__

    def watched(self: Objective, views: MaskedViews, *rest: object) -> object:
        seen.append(views)
        return whole(self, views, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "__call__", watched)
        step = module.train().step(blobs())
    (views,) = seen
    number = len(blobs())
    assert len(views.mask) == 3 * number
    assert len(step.views.mask) == len(step.terms.loss) == number  # one of each image is measured
    images = blobs()
    prior = module.explainer.prior(images)
    each = []
    for sample in range(3):
        rows = slice(sample * number, (sample + 1) * number)
        torch.testing.assert_close(views.images[rows], images)
        given = {name: value for name, value in vars(views).items() if value is not None}
        part = MaskedViews(**{name: value[rows] for name, value in given.items()})
        each.append(objective(part, step.posterior, prior, module.classifier).loss)
    torch.testing.assert_close(step.terms.loss, torch.stack(each).mean(0))


def test_validation_takes_one_sample(make_module: MakeModule) -> None:
    objective = Objective(SoftTopK((0.2, 0.5), 0.1), Mean(), beta=0.3, samples=2)
    seen: list[int] = []
    module = make_module(objective=objective)
    module.classifiers[0].network.register_forward_pre_hook(
        lambda _, given: seen.append(len(given[0]))
    )
    module.train().step(blobs())
    module.eval().step(blobs())
    number = len(blobs())
    assert seen == [number, 2 * number, number, number]  # the images, then their masked views


def test_less_than_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected samples >= 1\. Found 0\."):
        Objective(SoftTopK(), Mean(), beta=0.1, samples=0)
