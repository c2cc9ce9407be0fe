"""True classes of images, from the names of their directories or from a labels file."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Self

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.targets import class_index


@dataclass(frozen=True)
class Labels:
    """Finds the true class of an image by its name.

    Attributes:
        classes: Class by its name in lower case, and by each part of the name between commas;
            names that two classes share are left out.
        by_image: Class by image name, from the labels file; "" for a class whose name another
            class has too, since the gallery distinguishes classes by name.
        file: The labels file; None without one.

    Example:
        >>> label = Labels(named(["tabby, tabby cat", "tiger cat"]))
        >>> label("photos/Tiger_Cat/1.jpg"), label("photos/others/1.jpg")
        ('tiger cat', '')
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    by_image: Mapping[str, str] = field(default_factory=dict)
    file: str | None = None

    @classmethod
    def of(cls, classifier: FrozenClassifier, file: str | None) -> Self:
        """Make the labels of a classifier's images.

        Args:
            classifier: Classifier; with independent labels, images have no single true class.
            file: CSV file in UTF-8 without a header: the path of an image below the directory of
                the images, and the name or index of its class. None to use directories alone.

        Raises:
            ValueError: If the file is not of this form, or names a class that does not exist.
            OSError: If it cannot be read.
        """
        if classifier.output != "softmax":
            if file is not None:
                raise ValueError(
                    "Expected labels=null, as this classifier has independent labels. "
                    f"Found labels={file}."
                )
            return cls()
        by_image = {} if file is None else _read(Path(file), classifier)
        return cls(named(classifier.categories or ()), by_image, file)

    def __call__(self, name: str) -> str:
        """Name the true class, from the file or else from the image's directory; "" if unknown."""
        directory = PurePosixPath(name).parent.name.lower()
        of_directory = self.classes.get(directory, self.classes.get(directory.replace("_", " ")))
        return self.by_image.get(name, of_directory or "")

    def unmatched(self, names: Iterable[str]) -> str:
        """Say how many names in the labels file match none of these images; "" if all do."""
        others = sorted(self.by_image.keys() - set(names))
        if not others:
            return ""
        return (
            f"{len(others)} of {len(self.by_image)} names in {self.file} match no image: "
            f"{others[0]}, for example."
        )


def named(categories: Sequence[str]) -> dict[str, str]:
    """Map each class name in lower case, and each part of it between commas, to its class."""
    found: dict[str, list[str]] = {}
    for category in categories:
        for name in {category.lower(), *category.lower().split(", ")}:
            found.setdefault(name, []).append(category)
    return {name: classes[0] for name, classes in found.items() if len(classes) == 1}


def _read(file: Path, classifier: FrozenClassifier) -> dict[str, str]:
    """Read the labels file: the class of each image, by image name."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:  # Excel writes a BOM first
            rows = list(csv.reader(lines))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"Expected {file} to be a CSV file in UTF-8. Found {error}.") from None
    names = Counter(classifier.categories or ())
    labels: dict[str, str] = {}
    said: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if not any(map(str.strip, row)):
            continue
        try:
            if len(row) != 2:
                raise ValueError(f"{len(row)} between commas")
            name, index = str(PurePosixPath(row[0])), class_index(row[1], classifier.categories)
            if classifier.categories and index >= len(classifier.categories):
                raise ValueError(f"the classes are 0 to {len(classifier.categories) - 1}")
            label = classifier.category(index)
            if said.setdefault(name, index) != index:
                raise ValueError("an earlier line says another class")
        except ValueError as error:
            raise ValueError(
                f"Expected {file} to hold an image and its class in each line. "
                f"Found in line {number}: {','.join(row)} ({error})."
            ) from None
        labels[name] = label if names[label] < 2 else ""
    return labels
