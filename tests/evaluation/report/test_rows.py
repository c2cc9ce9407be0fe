"""The rows of tables."""

from dataclasses import replace

import torch

from saliency_vae.evaluation.report.rows import (
    baseline_tables,
    further_tables,
    ranking_rows,
    uncertainty_tables,
)
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.uncertainty import UncertaintyReport
from saliency_vae.metrics import Interval
from tests.helpers.constructed_results import IMAGES, constructed, several, with_values

EXPLAINER = "this explainer"


def test_ties_are_all_marked() -> None:
    scores = constructed({"insertion": {"explainer": 0.5, "rise": 0.5, "random": 0.1}})
    marked = {row.name: row.cells["insertion"].best for row in ranking_rows(scores)}
    assert marked == {EXPLAINER: True, "RISE": True, "random": False}


def test_fewer_images_are_said_and_never_win() -> None:
    scores = with_values(several(), "insertion", rise=torch.full((12,), 0.99))
    first, *_, last = ranking_rows(scores)
    assert (first.name, first.cells["insertion"].fewer) == ("RISE", "12 images")
    assert not first.cells["insertion"].best
    assert not first.cells["deletion"].fewer
    assert str(first.cells["insertion"]) == ".990 [.990, .990], 12 images"
    assert not last.cells["insertion"].fewer
    assert {row.name for row in ranking_rows(scores) if row.cells["insertion"].best} == {EXPLAINER}


def test_a_metric_without_a_score_has_no_cell() -> None:
    scores = several().extended({"grid_share": {"explainer": torch.ones(IMAGES)}})
    assert [row.name for row in ranking_rows(scores) if "grid_share" in row.cells] == [EXPLAINER]


def test_costs_are_those_that_were_measured() -> None:
    scores = replace(several(), passes={"explainer": 2.0})
    costs = {row.name: row.costs for row in ranking_rows(scores)}
    assert costs[EXPLAINER] == {"passes": 2.0, "ms": 2.0, "MiB": 1.0}
    assert costs["RISE"] == {"ms": 900.0, "MiB": 1.0}


def test_passes_of_an_uncertainty_are_exact() -> None:
    half, passes = (Interval(*map(torch.tensor, of)) for of in ((0.5, 0.4, 0.6), (500.0,) * 3))
    found = UncertaintyReport(
        intervals={"aurc_top": {"RELAX": half}, "passes": {"RELAX": passes}},
        roles={"RELAX": Role.RIVAL},
    )
    (table,) = uncertainty_tables(found)
    (row,) = table["rows"]
    assert row["name"] == "RELAX"
    assert [(c.mean, c.interval) for c in row["cells"]] == [(".500", "[.400, .600]"), ("500", "")]


def over_baselines() -> Scores:
    scores = constructed(
        {
            "insertion": {"explainer": 0.5, "rise": 0.4},
            "deletion": {"explainer": 0.5, "rise": 0.4},
            "insertion_zero": {"explainer": 0.5, "rise": 0.6},
            "srg_zero": {"explainer": 0.5, "rise": 0.6},
            "insertion_road": {"explainer": 0.2},
        }
    )
    return replace(scores, baseline="blur", seen=frozenset({"zero"}))


def test_each_further_baseline_image_has_a_table_in_its_own_order() -> None:
    scores = over_baselines()
    zero, road = baseline_tables(scores, ranking_rows(scores))
    assert zero.heading == "Over zero, seen in training"
    assert road.heading == "Over noisy linear imputation, unseen in training"
    assert list(zero.metrics) == ["insertion_zero", "srg_zero"]
    assert [info.title for info in zero.metrics.values()] == ["Insertion AUC", "SRG"]
    assert [row.name for row in zero.rows] == ["RISE", EXPLAINER]
    assert [row.name for row in road.rows] == [EXPLAINER]


def test_what_the_ranking_has_no_room_for_has_tables() -> None:
    metrics = ("insertion", "agreement_5", "agreement_40", "sparsity", "iou")
    scores = constructed({metric: {"explainer": 0.5, "rise": 0.4} for metric in metrics})
    agreement, further = further_tables(scores, ranking_rows(scores))
    assert list(agreement.metrics) == ["agreement_5", "agreement_40"]
    assert list(further.metrics) == ["sparsity"]
    one = constructed({metric: {"rise": 0.4} for metric in ("insertion", "agreement_5")})
    assert further_tables(one, ranking_rows(one)) == []
