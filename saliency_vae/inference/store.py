"""Explanations on disk: one safetensors file per batch, and reading them back."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save
from torch import Tensor

from saliency_vae.data import Preprocessing
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.visualization import MAPS, restored

DIRECTORY = "explanations"  # of the store, below the directory of the outputs
_KEY = "explanations"  # of the records in the metadata of a file
# Maps of smaller values or a smaller range are not stored as float16, whose steps are >= 6e-8.
_SMALL = 1e-3
_LEVEL = 1e-2  # the same for the range relative to the values, as steps are 1e-3 of the values


@dataclass(frozen=True)
class StoredExplanation:
    """An explanation in the form in which it is stored.

    Attributes:
        name: Name of the image.
        size: Height and width of the original image.
        preprocessing: Preprocessing of the original image for the classifier.
        values: Arrays and plain values of the explanation; maps of the preprocessed image's size.
        entry: Gallery entry as JSON; None without a gallery.
        sufficiency: Sufficiency, by which the gallery is sorted; None if the target is a score.
        checksum: Checksum of the preprocessed image, by which it is recognised; None in files of
            earlier versions.
    """

    name: str
    size: tuple[int, int]
    preprocessing: Preprocessing
    values: Mapping[str, Any]
    entry: str | None
    sufficiency: float | None
    checksum: int | None = None

    def restored(self) -> dict[str, Any]:
        """Arrays and plain values, with float32 maps over the whole original image."""

        def restore(maps: Tensor) -> Tensor:
            return self.preprocessing.restore(maps.float(), self.size)

        return restored(self.values, restore)


class Place(NamedTuple):
    """Where an explanation is stored.

    Attributes:
        file: File of its batch.
        number: Its number in the file.
        sufficiency: Its sufficiency.
        entry: Offset and length of its gallery entry in the file, in bytes; None without one.
    """

    file: Path
    number: int
    sufficiency: float | None
    entry: tuple[int, int] | None


@dataclass(frozen=True)
class Index:
    """Contents of a store.

    Attributes:
        places: Where each explanation is stored, by the name of its image.
        broken: Images that could not be explained, by name.
    """

    places: dict[str, Place] = field(default_factory=dict)
    broken: dict[str, BrokenImage] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """The files of explanations in a directory, each complete or absent.

    The last result written for an image counts. Maps are stored as float16, unless their values
    exceed its range or its resolution.

    Attributes:
        directory: Directory of the files.
    """

    directory: Path

    def write(
        self,
        found: Sequence[StoredExplanation],
        broken: Sequence[BrokenImage],
        *,
        modified: int | None = None,
    ) -> Path:
        """Write a batch: its explanations, and its images that could not be explained.

        Args:
            found: Explanations.
            broken: Images that could not be explained.
            modified: Modification time of the file, nanoseconds since the epoch; None for now.

        Returns:
            The file, named by a hash of the images' names, so that a batch always has one file.
        """
        tensors: dict[str, NDArray[Any]] = {}
        records = []
        for number, one in enumerate(found):
            arrays = {k: v for k, v in one.values.items() if isinstance(v, np.ndarray)}
            for key, array in arrays.items():
                tensors[f"{number}.{key}"] = _small(array) if key in MAPS else array
            if one.entry is not None:
                tensors[f"{number}.entry"] = np.frombuffer(one.entry.encode("ascii"), np.uint8)
            records.append(
                {
                    "name": one.name,
                    "size": one.size,
                    "preprocessing": vars(one.preprocessing),
                    "sufficiency": one.sufficiency,
                    "checksum": one.checksum,
                    "values": {k: v for k, v in one.values.items() if k not in arrays},
                    "arrays": list(arrays),
                }
            )
        content = {"found": records, "broken": [asdict(image) for image in broken]}
        names = [one.name for one in found] + [image.name for image in broken]
        key = hashlib.sha256(json.dumps(sorted(names)).encode()).hexdigest()[:16]
        file = self.directory / f"{key}.safetensors"
        with whole_file(file) as partial:
            partial.write_bytes(save(tensors, {_KEY: json.dumps(content)}))
            if modified is not None:
                os.utime(partial, ns=(modified, modified))
        return file

    def index(self) -> Index:
        """Index all explanations; only the headers of the files are read."""
        index = Index()
        for file in self._files():
            start, header = _header(file)
            content = _content(header, file)
            for number, record in enumerate(content["found"]):
                offsets = header.get(f"{number}.entry", {}).get("data_offsets")
                entry = None if offsets is None else (start + offsets[0], offsets[1] - offsets[0])
                place = Place(file, number, record["sufficiency"], entry)
                index.places[record["name"]] = place
                index.broken.pop(record["name"], None)
            for image in content["broken"]:
                index.broken[image["name"]] = BrokenImage(**image)
                index.places.pop(image["name"], None)
        return index

    def read(self, place: Place) -> StoredExplanation:
        """Read one explanation.

        Raises:
            ValueError: If the file does not hold explanations.
        """
        _, header = _header(place.file)
        record = _content(header, place.file)["found"][place.number]
        with safe_open(place.file, "numpy") as file:
            arrays = {key: file.get_tensor(f"{place.number}.{key}") for key in record["arrays"]}
        preprocessing: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in record["preprocessing"].items()
        }
        return StoredExplanation(
            name=record["name"],
            size=tuple(record["size"]),
            preprocessing=Preprocessing(**preprocessing),
            values=record["values"] | arrays,
            entry=None if place.entry is None else entry_at(place),
            sufficiency=record["sufficiency"],
            checksum=record.get("checksum"),
        )

    def forget(self, names: Iterable[str]) -> None:
        """Remove the explanations of these images, and keep all others.

        The rest of a file keeps its modification time, so that the last result still counts.
        """
        forgotten = set(names)
        # Files that other processes write from now on are left alone.
        contents = {file: _content(_header(file)[1], file) for file in self._files()}
        index = self.index()
        last = {name: file for file, content in contents.items() for name in _names(content)}
        written = set()
        for file, content in contents.items():
            names = _names(content)
            if file in written or forgotten.isdisjoint(names):
                continue
            left = [name for name in names if name not in forgotten and last[name] == file]
            places = [index.places[name] for name in left if name in index.places]
            kept = [self.read(place) for place in places if place.file == file]
            named = [index.broken[name] for name in left if name in index.broken]
            if kept or named:
                written.add(self.write(kept, named, modified=file.stat().st_mtime_ns))
            if file not in written:
                file.unlink()

    def clear(self) -> None:
        """Remove all explanations."""
        for file in self._files():
            file.unlink()

    def _files(self) -> list[Path]:
        """Files of the store, the oldest first."""
        try:
            with os.scandir(self.directory) as found:
                files = [
                    (file.stat().st_mtime_ns, file.path)
                    for file in found
                    if file.name.endswith(".safetensors")
                ]
        except FileNotFoundError:
            return []
        return [Path(path) for _, path in sorted(files)]


class Explanations(Mapping[str, dict[str, Any]]):
    """Explanations in a directory by the name of their image, read on access.

    An explanation is a dictionary: ``mean``, ``stddev`` and ``inclusion_probability`` over the
    whole image, float32 (H, W), NaN outside the part that the classifier saw; predictions and other
    plain values; ``samples`` (n, H, W) and ``objective`` if there are any.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places = store.index().places

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self._store.read(self._places[name]).restored()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places))

    def __len__(self) -> int:
        return len(self._places)


def load_explanations(output_dir: str | os.PathLike[str]) -> Explanations:
    """Read the explanations that ``python -m saliency_vae.explain`` wrote.

    Args:
        output_dir: The command's setting ``output_dir``.

    Returns:
        A mapping from the name of an image, its path below the directory of the images, to its
        explanation: ``load_explanations("OUT")["photo.jpg"]["mean"]`` is (H, W), float32.

    Raises:
        ValueError: If the directory holds no explanations.
    """
    directory = Path(output_dir) / DIRECTORY
    if not directory.is_dir():
        raise ValueError(
            f"Expected the output_dir of python -m saliency_vae.explain. Found no {directory}."
        )
    return Explanations(Store(directory))


def entry_at(place: Place) -> str:
    """Read the gallery entry of an explanation that has one, as JSON."""
    assert place.entry is not None
    start, length = place.entry
    with place.file.open("rb") as file:
        file.seek(start)
        return file.read(length).decode("ascii")


def _small(maps: NDArray[Any]) -> NDArray[Any]:
    """Convert maps to float16, if its range and resolution suffice for their values."""
    with np.errstate(over="ignore"):
        half = maps.astype(np.float16)
    if not (maps.size and np.isfinite(half).all()):
        return maps
    largest, extent = np.abs(maps).max(), np.ptp(maps)
    return maps if largest < _SMALL or extent < max(_SMALL, _LEVEL * largest) else half


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    """Read the header of a safetensors file: the offset of its first value, and its tensors."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(opened.read(length))
        except (ValueError, MemoryError, OverflowError):
            header = {}
    return 8 + length, header


def _names(content: Mapping[str, Any]) -> list[str]:
    """Names of the images in the records of a file."""
    return [one["name"] for key in ("found", "broken") for one in content[key]]


def _content(header: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Records of the explanations in a file, and of its broken images."""
    try:
        content: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
    except KeyError:
        raise ValueError(
            f"Expected {file} to hold explanations. Found another file: remove it."
        ) from None
    return content
