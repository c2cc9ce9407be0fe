"""True classes of images, where a person has said them: by directories, or in a file."""

import csv
from collections.abc import Mapping, Sequence
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
        by_image: Classes that a file says, by the names of the images.

    Example:
        >>> label = Labels(named(["tabby, tabby cat", "tiger cat"]))
        >>> label("photos/Tiger_Cat/1.jpg"), label("photos/others/1.jpg")
        ('tiger cat', '')
    """

    classes: Mapping[str, str] = field(default_factory=dict)
    by_image: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, classifier: FrozenClassifier, file: str | None) -> Self:
        """Find out what is known of the images of a classifier.

        Args:
            classifier: Classifier; of independent labels no single class is the true one.
            file: CSV file without a heading: the name of an image below the directory of the
                images, and the name or number of its class. None for directories alone.

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
        by_image = {} if file is None else dict(_read(Path(file), classifier))
        return cls(named(classifier.categories or ()), by_image)

    def __call__(self, name: str) -> str:
        """Name the true class: as the file says, else as the image's directory is called."""
        directory = PurePosixPath(name).parent.name.lower()
        of_directory = self.classes.get(directory, self.classes.get(directory.replace("_", " ")))
        return self.by_image.get(name, of_directory or "")


def named(categories: Sequence[str]) -> dict[str, str]:
    """List classes by their names in lower case, and by each of their names between commas."""
    found: dict[str, set[str]] = {}
    for category in categories:
        for name in (category.lower(), *category.lower().split(", ")):
            found.setdefault(name, set()).add(category)
    return {name: next(iter(classes)) for name, classes in found.items() if len(classes) == 1}


def _read(file: Path, classifier: FrozenClassifier) -> list[tuple[str, str]]:
    """Read the file of the labels: names of images, and of their classes."""
    labels = []
    with file.open(newline="", encoding="utf-8") as lines:
        for number, row in enumerate(csv.reader(lines), start=1):
            try:
                name, label = row
                labels.append(
                    (name, classifier.category(class_index(label, classifier.categories)))
                )
            except (ValueError, IndexError) as error:
                raise ValueError(
                    f"Expected {file} to hold an image and its class in each line. "
                    f"Found in line {number}: {','.join(row)} ({error})."
                ) from None
    return labels
