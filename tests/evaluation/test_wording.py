"""Names and numbers as they are written."""

import pytest

from saliency_vae.evaluation.roles import Role
from saliency_vae.evaluation.wording import baseline_title, label, short, three_digits, title


def test_titles_of_methods() -> None:
    names = ("rise", "edge_magnitude", "explainer", "second")
    assert [title(name) for name in names] == ["RISE", "edge magnitude", "this explainer", "second"]


def test_titles_of_baselines() -> None:
    names = ("inpaint", "road", "light_blur", "")
    assert [baseline_title(name) for name in names] == [
        "in-painting",
        "noisy linear imputation",
        "light blur",
        "",
    ]


def test_labels_say_whose_an_uncertainty_is() -> None:
    assert label("P(1-P)", Role.EXPLAINER) == "this explainer, P(1-P)"
    assert label("VarGrad", Role.CONTROL) == "control, VarGrad"
    assert [label("it", role) for role in (Role.ORACLE, None)] == ["it", "it"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.948, ".948"),
        (1.0, "1.000"),
        (10.5, "10.500"),
        (-0.25, "-.250"),
        (0.0, ".000"),
        (0.00213, ".0021"),
        (-0.002, "-.002"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1290.4, "1290"), (0.02664, "0.0266"), (1.5, "1.5"), (123456, "123000")]
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text
