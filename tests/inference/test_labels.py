"""True classes of images: from directories, and from a file."""

from pathlib import Path

import pytest
from torch import nn

from saliency_vae import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.inference.labels import Labels

NAMES = ["tabby, tabby cat", "tiger cat", "crane", "crane, bird"]


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
        ("tabby.jpg", ""),
    ],
)
def test_a_directory_may_name_the_class(name: str, expected: str) -> None:
    assert Labels.of(classifier(), None)(name) == expected


def test_a_file_names_classes(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text('tabby/1.jpg,tiger cat\n"a, b.jpg",0\n')
    label = Labels.of(classifier(), str(file))
    assert [label(n) for n in ("tabby/1.jpg", "a, b.jpg", "tabby/2.jpg", "c.jpg")] == [
        NAMES[1], NAMES[0], NAMES[0], "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.jpg", r"line 2: a\.jpg"),
        ("a.jpg,dog", "no class called 'dog'"),
        ("a.jpg,7", "line 2: a.jpg,7"),
        ("a.jpg,crane bird,x", "line 2"),
    ],
)
def test_a_file_that_is_wrong_is_refused(line: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"b.jpg,tabby\n{line}\n")
    with pytest.raises(ValueError, match=expected):
        Labels.of(classifier(), str(file))


def test_independent_labels_have_no_true_class(tmp_path: Path) -> None:
    assert Labels.of(classifier("sigmoid"), None)("tabby/1.jpg") == ""
    with pytest.raises(ValueError, match="labels=null, as this classifier has independent labels"):
        Labels.of(classifier("sigmoid"), "labels.csv")
