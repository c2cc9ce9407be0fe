"""Shards: image files packed into large files, which stream fast from any storage.

A shard holds the bytes of the image files in litdata's format. Reading it cannot execute code:
litdata's other formats, such as pickle, are refused.
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
from saliency_vae.data.image_reader import load_rgb
from saliency_vae.runtime.device import loader_processes
from saliency_vae.runtime.extras import importing
from saliency_vae.runtime.text import described

INDEX = "index.json"  # written last, so a directory that has it is complete
_FORMAT = "bytes"  # litdata's name of the format


def require_litdata() -> None:
    """Check that litdata is installed.

    Raises:
        ValueError: If it is not installed.
    """
    with importing("litdata", extra="streaming", wanted_by="shards"):
        import litdata  # noqa: F401 (checks that it can be imported)


class Decode:
    """Turns the bytes of an image file into a preprocessed image.

    Args:
        preprocess: Function from an RGB image to uint8 (3, H, W), of the same size for all.
    """

    def __init__(self, preprocess: Callable[[Image.Image], Tensor]) -> None:
        self.preprocess = preprocess

    def __call__(self, data: bytes) -> Batch:
        """Decode and preprocess the bytes of a file."""
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
        location: Directory or URL (``s3://``, ``gs://``, ``https://`` ...) of the shards.
        preprocess: Preprocessing of the images, see :class:`Decode`.
        shuffle: Shuffle shards and images anew in each epoch, and drop images so that all loader
            processes have the same number of batches.
        seed: Seed of the shuffling.
        cache_dir: Directory for shards downloaded from a URL; None for litdata's default.

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
    except Exception as error:  # litdata and the clients of the stores raise many kinds
        raise ValueError(
            f"Expected complete shards of images in {location}. Found {described(error)}."
        ) from None
    return dataset


def _only_bytes() -> dict[str, Any]:
    """Replace every litdata serializer except the one for bytes by one that refuses."""
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
    """Bytes of image files; None for a file that is not a readable image."""

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
    """Write image files to shards in random order, since images of a shard are used together.

    Args:
        paths: Paths of the files; each is decoded once, to check it.
        directory: Directory of the shards, which is made if needed.
        shard_bytes: Size of a shard in bytes.
        num_workers: Number of processes that read the files; 0 reads them in this one.
        seed: Seed of the order.
        progress: Wrapper of the iteration over the files, such as a progress bar.

    Returns:
        Files that are not readable images and were left out.

    Raises:
        ValueError: If litdata is not installed, the directory is not empty, or no file is readable.
    """
    require_litdata()
    from litdata.streaming.writer import BinaryWriter

    if directory.exists() and any(directory.iterdir()):
        raise ValueError(
            f"Expected a new or empty directory for shards. Found files in {directory}."
        )
    directory.mkdir(parents=True, exist_ok=True)
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    workers = loader_processes(num_workers)
    files = DataLoader(_Files([paths[i] for i in order]), batch_size=None, num_workers=workers)
    writer = BinaryWriter(str(directory), chunk_bytes=shard_bytes)
    broken, written = [], 0
    for path, data in progress(files):
        if data is None:
            broken.append(path)
        else:
            writer[written] = data
            written += 1
    if not written:
        raise ValueError(f"Expected at least one readable image for {directory}. Found none.")
    writer.done()
    writer.merge()
    return broken
