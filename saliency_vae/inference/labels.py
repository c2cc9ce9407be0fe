"""True classes of images, where a person has said them: by directories, or in a file."""

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
        classes: Classes by their names in lower case, and by each one between commas; those that
            two classes share are left out.
        by_image: Classes that a file says, by the names of the images; "" for a class whose name
            another class has, since the gallery tells classes apart by their names.
        file: The file.

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
        """Find out what is known of the images of a classifier.

        Args:
            classifier: Classifier; of independent labels no single class is the true one.
            file: CSV file in UTF-8 without a heading: the name of an image below the directory of
                the images, and the name or number of its class. None for directories alone.

        Raises:
            ValueError: If the file is not of this form, or names a class that there is not.
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
        """Name the true class: as the file says, else as the image's directory is called."""
        directory = PurePosixPath(name).parent.name.lower()
        of_directory = self.classes.get(directory, self.classes.get(directory.replace("_", " ")))
        return self.by_image.get(name, of_directory or "")

    def unmatched(self, names: Iterable[str]) -> str:
        """Say how many images of the file are not among the names; "" if all are."""
        others = sorted(self.by_image.keys() - set(names))
        if not others:
            return ""
        return (
            f"{len(others)} of {len(self.by_image)} names in {self.file} match no image: "
            f"{others[0]}, for example."
        )


def named(categories: Sequence[str]) -> dict[str, str]:
    """List classes by their names in lower case, and by each of their names between commas."""
    found: dict[str, list[str]] = {}
    for category in categories:
        for name in {category.lower(), *category.lower().split(", ")}:
            found.setdefault(name, []).append(category)
    return {name: classes[0] for name, classes in found.items() if len(classes) == 1}


def _read(file: Path, classifier: FrozenClassifier) -> dict[str, str]:
    """Read the file of the labels: classes by the names of images."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:  # Excel writes a mark first
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
            label = classifier.category(index)
            if said.setdefault(name, index) != index:
                raise ValueError("an earlier line says another class")
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"Expected {file} to hold an image and its class in each line. "
                f"Found in line {number}: {','.join(row)} ({error})."
            ) from None
        labels[name] = label if names[label] < 2 else ""
    return labels
