"""Rank reversals, on scores whose orders are known and against a loop over pairs."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from torch import Tensor

from saliency_vae.evaluation.rank_reversals import RankReversals, rank_reversals
from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.scores import Scores
from saliency_vae.metrics.bootstrap import difference_interval
from tests.helpers.constructed_results import constructed, with_values


def known(**roles: Role) -> Scores:
    """Grad-CAM beats RISE over blur and loses over noise; the explainer loses to both there."""
    scores = constructed(
        {
            "insertion": {"rise": 0.5, "explainer": 0.7, "grad_cam": 0.6, "oracle": 0.9},
            "insertion_zero": {"rise": 0.5, "explainer": 0.45, "grad_cam": 0.46, "oracle": 0.1},
        },
        roles=roles,
    )
    return replace(scores, baseline="blur")


def test_reversals_are_found_and_those_of_the_explainer_come_first() -> None:
    found = rank_reversals(known())
    assert found.metric == "insertion"
    assert found.pairs == 3  # the oracle does not take part
    assert [reversal.methods for reversal in found.reversals] == [
        ("rise", "explainer"),
        ("explainer", "grad_cam"),
        ("rise", "grad_cam"),
    ]
    first = found.reversals[0]
    assert first.baselines == ("zero", "blur")  # where RISE is better, and where it is not
    assert first.differences[0] == pytest.approx((0.05, 0.05, 0.05), abs=1e-6)
    assert first.differences[1] == pytest.approx((-0.2, -0.2, -0.2), abs=1e-6)
    assert first.size == pytest.approx(0.05)
    assert str(first) == (
        "RISE and this explainer: over zero, RISE is better by .050 [.050, .050]; over blur, "
        "this explainer is better by .200 [.200, .200]."
    )


def test_a_further_explainer_comes_second() -> None:
    found = rank_reversals(known(rise=Role.EXPLAINER, explainer=Role.RIVAL))
    assert all("explainer" in reversal.methods for reversal in found.reversals[:2])
    renamed = rank_reversals(known(grad_cam=Role.EXPLAINER))
    assert [reversal.methods[1] for reversal in renamed.reversals] == [
        "explainer",
        "grad_cam",
        "grad_cam",
    ]


def test_the_clearest_of_several_reversals_of_a_pair_is_kept() -> None:
    scores = constructed(
        {
            "srg": {"explainer": 0.5, "rise": 0.4},
            "srg_zero": {"explainer": 0.4, "rise": 0.41},
            "srg_road": {"explainer": 0.3, "rise": 0.37},
            "srg_mean": {"explainer": 0.9, "rise": 0.1},
        }
    )
    (reversal,) = rank_reversals(scores).reversals
    assert reversal.baselines[1] == "noisy linear imputation"  # where RISE is better
    assert reversal.size == pytest.approx(0.07)


def test_what_is_not_clear_is_no_reversal() -> None:
    noise = torch.randn(40, generator=torch.Generator().manual_seed(0))
    scores = constructed(
        {
            "insertion": {"explainer": 0.5, "rise": 0.4},
            "insertion_zero": {"explainer": 0.5, "rise": 0.51},
        }
    )
    assert len(rank_reversals(scores).reversals) == 1
    noisy = with_values(scores, "insertion_zero", rise=0.51 + noise)
    assert rank_reversals(noisy).reversals == ()
    tiny = with_values(scores, "insertion_zero", rise=noise + 0.0002, explainer=noise)
    assert rank_reversals(tiny).reversals == ()  # 0.000 in the text


def test_two_controls_are_no_pair() -> None:
    roles = {"grad_cam": Role.CONTROL, "rise": Role.CONTROL}
    found = rank_reversals(known(**roles))
    assert found.pairs == 2
    assert all("explainer" in reversal.methods for reversal in found.reversals)


def test_one_baseline_image_or_one_method_has_nothing_to_compare() -> None:
    scores = constructed({"insertion": {"explainer": 0.5, "rise": 0.4}})
    assert rank_reversals(scores) == RankReversals()
    lonely = constructed({"insertion": {"rise": 0.5}, "insertion_zero": {"rise": 0.5}})
    assert rank_reversals(lonely) == RankReversals()


def random_scores(numbers: Mapping[str, int]) -> Scores:
    generator = torch.Generator().manual_seed(0)

    def values(number: int) -> Tensor:
        return 0.25 * torch.randn(number, generator=generator) + 0.2 * torch.rand(
            (), generator=generator
        )

    return Scores(
        values={
            metric: {method: values(number) for method, number in numbers.items()}
            for metric in ("srg", "srg_zero", "srg_mean")
        },
        seconds=dict.fromkeys(numbers, 1.0),
        roles=dict.fromkeys(numbers, Role.RIVAL),
        baseline="blur",
        seed=1,
    )


def test_against_a_loop_over_pairs_with_fewer_images_of_some() -> None:
    numbers = {"a": 60, "b": 60, "c": 20, "d": 60, "e": 20, "f": 60, "g": 60, "h": 5}
    scores = random_scores(numbers)
    names = {"srg": "blur", "srg_zero": "zero", "srg_mean": "mean"}
    expected = set()
    methods = [method for method in numbers if method != "h"]  # too few images
    for one in methods:
        for other in methods:
            for metric, baseline in names.items():
                for second_metric, second_baseline in names.items():
                    if one < other:
                        n = min(numbers[one], numbers[other])
                        above, below = (
                            difference_interval(
                                scores.values[m][one][:n], scores.values[m][other][:n], seed=1
                            )
                            for m in (metric, second_metric)
                        )
                        if above.low > 0 and below.high < 0:
                            expected.add((one, other, baseline, second_baseline))
    found = rank_reversals(scores)
    assert found.pairs == 7 * 6 / 2
    assert {(r.methods + r.baselines) for r in found.reversals} <= expected
    assert {r.methods for r in found.reversals} == {(one, other) for one, other, *_ in expected}
    assert len(expected) > 2
    sizes = [reversal.size for reversal in found.reversals]
    assert sizes == sorted(sizes, reverse=True)


def test_kendalls_tau_is_scipys_over_the_methods_with_all_images() -> None:
    scores = random_scores({"a": 60, "b": 60, "c": 20, "d": 60, "e": 60, "f": 60})
    tau = rank_reversals(scores).tau
    assert list(tau) == [("blur", "zero"), ("blur", "mean"), ("zero", "mean")]
    means = [[scores.mean(m, method) for method in "abdef"] for m in ("srg", "srg_mean")]
    assert tau["blur", "mean"] == pytest.approx(kendalltau(*means).statistic)


def test_equal_methods_have_no_tau() -> None:
    scores = constructed(
        {
            "insertion": {"explainer": 0.5, "rise": 0.5},
            "insertion_zero": {"explainer": 0.5, "rise": 0.4},
        }
    )
    assert rank_reversals(scores).tau == {}
