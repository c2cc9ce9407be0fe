"""Intervals over groups of images, and what is too little to judge by."""

import torch

from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.roles import EXPLAINER, Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.verdicts import compare_with_rivals


def test_images_of_one_group_are_drawn_together() -> None:
    """Six equal images are no six draws: the interval is that of the groups alone."""
    values = torch.randn(10, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(10)
    alone, copied = Resampling(groups=groups), Resampling(groups=groups.repeat_interleave(6))
    many = values.repeat_interleave(6)
    for one, other in (
        (alone.mean(values), copied.mean(many)),
        (alone.difference(values, 0 * values), copied.difference(many, 0 * many)),
        (
            alone.statistic(lambda i: values[i].median(), 10),
            copied.statistic(lambda i: many[i].median(), 60),
        ),
    ):
        assert torch.allclose(torch.stack([*one]), torch.stack([*other]), atol=1e-6)


def test_some_of_the_images() -> None:
    resampling = Resampling(groups=torch.tensor([0, 0, 1, 2]))
    assert resampling.some(torch.tensor([True, True, False, True])).independent(3) == 2
    assert Resampling().some(torch.tensor([True, False])).independent(1) == 1


def test_one_group_of_many_images_is_no_ground_for_a_verdict() -> None:
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.rand(60, generator=generator) for name in (EXPLAINER, "rise")}
    for groups, judged in ((torch.zeros(60), False), (torch.arange(60) // 6, True)):
        scores = Scores(
            values={"insertion": values, "srg": values},
            seconds=dict.fromkeys(values, 1.0),
            roles={EXPLAINER: Role.EXPLAINER, "rise": Role.RIVAL},
            groups=groups.long(),
        )
        first = compare_with_rivals(scores)[0]
        assert (first.judgement == "note") is not judged
