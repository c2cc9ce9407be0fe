"""Image files packed in shards of many megabytes, which a disk or an object store streams fast.

A shard holds the files' own bytes, as litdata writes them, and nothing that could be executed when
it is read: litdata's other formats, pickle among them, are refused.
"""

from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from saliency_vae.data.batch import Batch
from saliency_vae.data.images import load_rgb

INDEX = "index.json"  # written last: a directory with it is complete
_FORMAT = "bytes"  # litdata's name of it


def require_litdata() -> None:
    """Import litdata.

    Raises:
        ValueError: If it is not installed.
    """
    try:
        import litdata  # noqa: F401 (whether it can be imported is the question)
    except ImportError:
        raise ValueError(
            "Expected the optional extra streaming for shards. Not found: "
            "pip install 'saliency-vae[streaming]'."
        ) from None


class Decode:
    """Image of a file's bytes.

    Args:
        preprocess: RGB image to uint8 (3, H, W), the same size for all.
    """

    def __init__(self, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.preprocess = preprocess

    def __call__(self, data: bytes) -> Batch:
        """Decode and preprocess."""
        return {"image": self.preprocess(load_rgb(BytesIO(data)))}


def open_split(
    location: str,
    preprocess: Callable[[Image.Image], Tensor],
    *,
    shuffle: bool,
    seed: int,
    cache_dir: str | None,
) -> Any:
    """Open the shards of a split.

    Args:
        location: Directory or URL (``s3://``, ``gs://``, ``https://`` ...) that ``shard`` wrote.
        preprocess: See :class:`Decode`.
        shuffle: Shuffle shards and images anew each epoch, and drop what would give one loader
            process a batch more than another.
        seed: Of the shuffling.
        cache_dir: Where shards from a URL are kept; None for litdata's own place.

    Raises:
        ValueError: If there are no complete shards of images, or litdata is not installed.
    """
    require_litdata()
    from litdata import StreamingDataset

    if "://" not in location and not (Path(location) / INDEX).is_file():
        raise ValueError(
            f"Expected complete shards of images in {location}. Not found: {INDEX}. "
            "python -m saliency_vae.shard makes them."
        )
    try:
        dataset = StreamingDataset(
            location,
            cache_dir=cache_dir,
            shuffle=shuffle,
            drop_last=shuffle,
            seed=seed,
            serializers=_only_bytes(),
            transform=Decode(preprocess),
        )
    except Exception as error:  # litdata's own, and those of every store's client
        raise ValueError(
            f"Expected complete shards of images in {location}. "
            f"Found {type(error).__name__}: {' '.join(str(error).split())}."
        ) from None
    return dataset


def _only_bytes() -> dict[str, Any]:
    """Put one that refuses in the place of every serializer but that of bytes."""
    from litdata.streaming.serializers import _SERIALIZERS, Serializer

    class Refuse(Serializer):  # type: ignore[misc, unused-ignore]  # litdata may be missing
        def serialize(self, item: Any) -> tuple[bytes, str | None]:
            raise ValueError("Expected shards to be read. Found an item to write.")

        def deserialize(self, data: bytes) -> Any:
            raise ValueError("Expected shards of encoded images. Found another kind of data.")

        def can_serialize(self, item: Any) -> bool:
            return False

    return {name: Refuse() for name in _SERIALIZERS if name != _FORMAT}


class _Files(Dataset[tuple[Path, bytes | None]]):
    """Bytes of image files, None for those that no image can be made of."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Path, bytes | None]:
        path = self.paths[index]
        try:
            data = path.read_bytes()
            load_rgb(BytesIO(data))
        except OSError:
            return path, None
        return path, data


def write_split(
    paths: list[Path],
    directory: Path,
    *,
    shard_bytes: int,
    num_workers: int,
    seed: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> list[Path]:
    """Write image files to shards, in random order: neighbours in a shard stay near in training.

    Args:
        paths: Of the files; each is decoded once, to see that it can be.
        directory: Made; of the shards.
        shard_bytes: Size of a shard.
        num_workers: Processes that read; 0 reads in this one.
        seed: Of the order.
        progress: Wraps the iteration over the files.

    Returns:
        Files that no image can be made of: left out.

    Raises:
        ValueError: If litdata is not installed, or the directory holds something.
    """
    require_litdata()
    from litdata.streaming.writer import BinaryWriter

    if directory.exists() and any(directory.iterdir()):
        raise ValueError(
            f"Expected a new or empty directory for shards. Found files in {directory}."
        )
    directory.mkdir(parents=True, exist_ok=True)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    files = DataLoader(_Files([paths[i] for i in order]), batch_size=None, num_workers=num_workers)
    writer = BinaryWriter(str(directory), chunk_bytes=shard_bytes)
    broken, written = [], 0
    for path, data in progress(files):
        if data is None:
            broken.append(path)
        else:
            writer[written] = data
            written += 1
    if not written:
        raise ValueError(f"Expected at least one image for {directory}. Found none that is whole.")
    writer.done()
    writer.merge()
    return broken
