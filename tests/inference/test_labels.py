"""True classes of images: from directories, and from a file."""

from pathlib import Path

import pytest
from torch import nn

from saliency_vae import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.inference.labels import Labels

NAMES = ["tabby, tabby cat", "tiger cat", "crane", "crane, bird", "maillot", "maillot"]


def classifier(output: Output = "softmax") -> FrozenClassifier:
    return FrozenClassifier(
        nn.Identity(), mean=[0, 0, 0], std=[1, 1, 1], output=output, categories=NAMES
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tabby/1.jpg", NAMES[0]),
        ("deep/Tabby Cat/1.jpg", NAMES[0]),
        ("tiger_cat/1.jpg", NAMES[1]),
        ("tiger_cat/others/1.jpg", ""),
        ("crane/1.jpg", ""),  # of two classes
        ("maillot/1.jpg", ""),  # two classes are called so
        ("tabby.jpg", ""),
    ],
)
def test_a_directory_may_name_the_class(name: str, expected: str) -> None:
    assert Labels.of(classifier(), None)(name) == expected


def test_a_file_names_classes(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    rows = (
        '\ufeff./tabby/1.jpg,tiger cat\r\n\r\n"a, b.jpg",0\r\ntabby/3.jpg,5\r\na.png,1\r\n,\r\n\r\n'
    )
    file.write_text(rows, encoding="utf-8")  # as Excel writes it
    label = Labels.of(classifier(), str(file))
    named = {"tabby/1.jpg": NAMES[1], "a, b.jpg": NAMES[0], "tabby/2.jpg": NAMES[0], "c.jpg": ""}
    named["tabby/3.jpg"] = ""  # two classes are called as this one
    assert {name: label(name) for name in named} == named
    assert label.unmatched([*named, "a.png"]) == Labels().unmatched(named) == ""
    said = label.unmatched(named)
    assert said == f"1 of 4 names in {file} match no image: a.png, for example."


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.jpg", r"line 2: a\.jpg \(1 between commas\)"),
        ("./b.jpg,tiger cat", r"line 2: \./b\.jpg,tiger cat \(an earlier line says another class"),
        ("gr\udcfcn.jpg,tabby", r"labels\.csv to be a CSV file in UTF-8\. Found 'utf-8' codec"),
        ("a.jpg,dog", "no class called 'dog'"),
        ("a.jpg,7", r"line 2: a.jpg,7 \(the classes are 0 to 5\)"),
        ("a.jpg,crane bird,x", "line 2"),
    ],
)
def test_a_file_that_is_wrong_is_refused(line: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"b.jpg,tabby\n{line}\n", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match=expected):
        Labels.of(classifier(), str(file))


def test_independent_labels_have_no_true_class(tmp_path: Path) -> None:
    assert Labels.of(classifier("sigmoid"), None)("tabby/1.jpg") == ""
    with pytest.raises(ValueError, match="labels=null, as this classifier has independent labels"):
        Labels.of(classifier("sigmoid"), "labels.csv")
