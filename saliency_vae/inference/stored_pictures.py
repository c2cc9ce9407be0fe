"""Drawing panels and gallery entries of images explained earlier, from what is stored."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from saliency_vae.inference.image_files import InputImages
from saliency_vae.inference.job import Job
from saliency_vae.inference.outputs import NAME_ERRORS
from saliency_vae.inference.partition import Partition
from saliency_vae.inference.savers import end_with_parent
from saliency_vae.inference.store import Index, StoredExplanation
from saliency_vae.perturbations import is_fixed
from saliency_vae.runtime.device import loader_processes
from saliency_vae.visualization import InputImage, read_back


def draw_stored(job: Job, partition: Partition, index: Index) -> int:
    """Draw the missing panels and gallery entries of explained images in a partition.

    An image is left to be explained again if it has changed, if its baseline image is random, if
    an earlier version stored it, or if a panel cannot have its name, which is then reported.

    Returns:
        Number of images that now have all of them.
    """
    batches = [[job.name(file) for file in batch] for batch in partition.of(job.batches)]
    lacking = [
        batch for batch in batches if any(job.outputs.undrawn(name, index) for name in batch)
    ]
    baseline = job.explainer.baseline()
    if not (lacking and is_fixed(baseline)):
        return 0
    loader = DataLoader(
        _Batches(job, lacking, index, baseline),
        batch_size=None,
        num_workers=loader_processes(job.config.num_workers),
        worker_init_fn=end_with_parent,
    )
    drawn = 0
    with tqdm(total=sum(map(len, lacking)), desc="Drawing", unit="image") as bar:
        for batch, number in zip(lacking, loader, strict=True):
            bar.update(len(batch))
            drawn += number
    return drawn


class _Batches(Dataset[int]):
    """Draws and stores, on access, what a batch lacks; an item is the number of images drawn."""

    def __init__(
        self, job: Job, batches: Sequence[Sequence[str]], index: Index, baseline: nn.Module
    ) -> None:
        self._root, self._shown, self._outputs = job.root, job.shown, job.outputs
        self._preprocessing = job.classifier.preprocessing
        self._batches, self._index, self._baseline = batches, index, baseline

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> int:
        names, index = self._batches[number], self._index
        undrawn = [name for name in names if self._outputs.undrawn(name, index)]
        files = [self._root / name for name in undrawn]
        images = InputImages(self._root, files, self._preprocessing, shown=self._shown)
        read = (images[i] for i in range(len(images)))
        found = [self._draw(image) for image in read if isinstance(image, InputImage)]
        drawn = [stored for stored in found if stored is not None]
        if any(stored.entry and not index.places[stored.name].entry for stored in drawn):
            broken = [index.broken[name] for name in names if name in index.broken]
            self._outputs.store.write(drawn, broken)  # replaces their file if all are drawn
        return len(drawn)

    def _draw(self, image: InputImage) -> StoredExplanation | None:
        """Draw what an image lacks; None if what is stored does not allow it."""
        outputs = self._outputs
        stored = outputs.store.read(self._index.places[image.name])
        if (stored.checksum, stored.size) != (image.checksum, image.size):
            return None
        baseline = self._baseline(torch.from_numpy(image.pixels)[None].float() / 255)[0]
        explanation = read_back(stored.values, image, baseline)
        try:
            if outputs.lacks_panel(image.name):
                outputs.draw(explanation)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return None
        if outputs.gallery and stored.entry is None:
            return replace(stored, entry=outputs.entry(explanation))
        return stored
