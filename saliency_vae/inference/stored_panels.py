"""Panels asked for after their images were explained, drawn of what is stored."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from saliency_vae.inference.image_files import BrokenImage, InputImages
from saliency_vae.inference.job import Job
from saliency_vae.inference.outputs import NAME_ERRORS, Outputs, checksum
from saliency_vae.inference.partition import Partition
from saliency_vae.inference.predict import default_baseline
from saliency_vae.inference.savers import end_with_parent
from saliency_vae.inference.store import Index
from saliency_vae.perturbations import is_fixed
from saliency_vae.runtime.device import loader_processes
from saliency_vae.visualization import read_back


def draw_panels(job: Job, partition: Partition, index: Index) -> int:
    """Draw the panels that explained images of a partition lack.

    An image is left to be explained again if it is no longer the one that was explained, if its
    baseline image is random, or if an earlier version stored it; also if no panel can have its
    name, which is reported there.

    Returns:
        Number of panels drawn.
    """
    files = [
        file
        for batch in partition.of(job.batches)
        for file in batch
        if job.outputs.undrawn(job.name(file), index)
    ]
    baseline = default_baseline(job.explainer)
    if not (files and is_fixed(baseline)):
        return 0
    images = InputImages(job.root, files, job.classifier.preprocessing, shown=job.outputs.panels)
    loader = DataLoader(
        _Panels(images, job.outputs, index, baseline),
        batch_size=None,
        num_workers=loader_processes(job.config.num_workers),
        worker_init_fn=end_with_parent,
    )
    drawn: int = sum(tqdm(loader, total=len(files), desc="Drawing", unit="panel"))
    return drawn


class _Panels(Dataset[bool]):
    """Draws a panel when it is accessed, and says whether that could be done."""

    def __init__(
        self, images: InputImages, outputs: Outputs, index: Index, baseline: nn.Module
    ) -> None:
        self._images, self._outputs = images, outputs
        self._index, self._baseline = index, baseline

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, number: int) -> bool:
        image = self._images[number]
        if isinstance(image, BrokenImage):
            return False
        stored = self._outputs.store.read(self._index.places[image.name])
        if (stored.checksum, stored.size) != (checksum(image), image.size):
            return False
        baseline = self._baseline(torch.from_numpy(image.pixels)[None].float() / 255)[0]
        try:
            self._outputs.draw(read_back(stored.values, image, baseline))
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return False
        return True
