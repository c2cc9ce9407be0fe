"""Scores of methods: means, intervals, the best, the ranking."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.metrics.bootstrap import difference_interval, mean_interval
from tests.helpers.constructed_results import IMAGES, constructed, several


def test_interval_of_each_method_is_that_of_the_method_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.rand(30, generator=generator) for name in ("a", "b", "c")}
    scores = Scores(seed=3, values={"iou": values})
    for name, of_method in values.items():
        expected = mean_interval(of_method, seed=3)
        for found, number in zip(scores.intervals["iou"][name], expected, strict=True):
            torch.testing.assert_close(found, number)


def test_further_metrics_may_have_fewer_images() -> None:
    before = several()
    hits = {method: torch.ones(3) for method in before.methods}
    scores = before.extended({"pointing_game": hits})
    assert scores.images == IMAGES
    interval = scores.intervals["pointing_game"]["explainer"]
    assert float(interval.low) == pytest.approx(3 / (3 + 1.959964**2))  # Wilson's of 3 hits in 3
    assert float(interval.high) == 1
    assert list(scores.values) == [*before.values, "pointing_game"]


def test_extending_leaves_the_scores_as_they_were() -> None:
    before = several()
    scores = before.extended(left_out=["One."]).extended({"iou": {}}, left_out=["Two."])
    assert scores.left_out == ("One.", "Two.")
    assert before.left_out == ()
    assert "iou" not in before.values
    with pytest.raises(FrozenInstanceError):
        before.seed = 1  # type: ignore[misc]


def test_a_difference_of_shares_is_no_share() -> None:
    """Where all have the same mask, no image gains anything by its own."""
    own = {"explainer": torch.tensor([1.0, 0.0, 1.0, 1.0]), "centre_prior": torch.zeros(4)}
    scores = several().extended({"own_mask": own})
    assert [float(n) for n in scores.intervals["own_mask"]["centre_prior"]] == [0, 0, 0]
    expected = difference_interval(own["explainer"], torch.zeros(4))
    assert scores.intervals["own_mask"]["explainer"] == expected


def test_best_by_direction_without_the_oracle() -> None:
    scores = several()
    assert scores.best("insertion") == {"explainer"}
    assert scores.best("deletion") == {"explainer"}
    assert scores.best("sparsity") == set()  # neither high nor low is better


def test_the_best_may_be_several() -> None:
    scores = constructed({"iou": {"explainer": 0.5, "rise": 0.5, "gradient": 0.4, "oracle": 1.0}})
    assert scores.best("iou") == {"explainer", "rise"}
    assert constructed({"iou": {"oracle": 1.0}}).best("iou") == set()


def test_rivals_are_known_by_their_roles() -> None:
    scores = constructed(
        {"iou": {"explainer": 0.5, "oracle": 1.0, "rise": 0.5, "random": 0.1, "second": 0.4}},
        roles={"second": Role.EXPLAINER},
    )
    assert scores.rivals == ["rise", "random"]


def test_ranking_is_by_insertion() -> None:
    scores = several()
    assert scores.methods == ["random", "explainer", "oracle", "rise", "grad_cam"]
    assert scores.ranking() == ["oracle", "explainer", "rise", "grad_cam", "random"]
