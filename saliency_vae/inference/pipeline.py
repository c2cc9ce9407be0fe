"""Explain image files as configured: read, explain and write, batch by batch."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.inference.devices import each_device, in_processes
from saliency_vae.inference.image_files import BrokenImage, InputImages, same_size
from saliency_vae.inference.job import Job
from saliency_vae.inference.outputs import line_of
from saliency_vae.inference.partition import Partition
from saliency_vae.inference.predict import BatchExplainer
from saliency_vae.inference.savers import end_with_parent, saving
from saliency_vae.inference.store import Index, entry_at
from saliency_vae.inference.stored_pictures import draw_stored
from saliency_vae.inference.summary import Summary
from saliency_vae.runtime.device import loader_processes
from saliency_vae.runtime.memory import suggesting
from saliency_vae.runtime.text import same_command
from saliency_vae.visualization import Explanation, InputImage, write_gallery


def explain_images(config: ExplainConfig) -> Summary:
    """Explain image files, and write their maps, panels and a gallery of all.

    Raises:
        ValueError: If a setting is wrong, before anything is written.
    """
    partition = Partition.chosen(config.partition)
    devices = each_device(config.device, config.devices)
    job = Job.of(config)
    names = [job.name(file) for batch in partition.of(job.batches) for file in batch]
    parts = partition.split(len(devices))
    with job.outputs.taken(parts, job.settings, names, overwrite=config.overwrite):
        index = job.outputs.store.index()
        drawn = draw_stored(job, partition, index)
        index = job.outputs.store.index() if drawn else index
        new = [name for name in names if not job.outputs.done(name, index)]
        if len(devices) == 1:
            _explain(job, partition, devices[0], index)
    if len(devices) > 1:
        with suggesting(*_advice(config)):
            in_processes(
                _explain_part,
                [
                    replace(config, devices=1, partition=str(part), device=device)
                    for part, device in zip(parts, devices, strict=True)
                ],
            )
    index, left, gallery = _finish(job)
    told = names if left else job.names  # the last process reports all broken images
    return Summary(
        partition=str(partition) if partition.count > 1 else "",
        origin=partition.origin,
        images=len(names),
        explained=sum(name not in index.broken for name in new),
        earlier=len(names) - len(new),
        drawn=drawn,
        broken=[line_of(index.broken[name]) for name in told if name in index.broken],
        broken_list=None if left else job.outputs.broken_list,
        left=left,
        overwrite=config.overwrite,
        label_note=job.label.unmatched(job.names),
        refine_steps=config.refine_steps,
        objective=_objective(job, index, new),
        found_at=gallery or (job.outputs.store.directory if index.places else None),
    )


def _explain_part(config: ExplainConfig) -> None:
    """Explain one part of a partition, in a separate process."""
    job, part = Job.of(config), Partition.chosen(config.partition)
    with job.outputs.taken([part], job.settings, [], overwrite=False):
        _explain(job, part, config.device, job.outputs.store.index())


def _explain(job: Job, partition: Partition, device: str, index: Index) -> None:
    """Explain and save what is left of a partition, with few batches in memory at a time."""
    config, outputs = job.config, job.outputs
    left = [
        [file for file in batch if not outputs.done(job.name(file), index)]
        for batch in partition.of(job.batches)
    ]
    files = [file for batch in left for file in batch]
    images = InputImages(job.root, files, job.classifier.preprocessing, shown=job.shown)
    explain = job.explainer_on(device)
    loader: Iterable[list[InputImage | BrokenImage]] = DataLoader(
        images,
        batch_sampler=_numbered(left),
        num_workers=loader_processes(config.num_workers),
        collate_fn=list,
        worker_init_fn=end_with_parent,
    )
    title = "Explaining" if partition.count == 1 else f"Explaining {partition}"
    with (
        suggesting(*_advice(config)),
        tqdm(total=len(files), desc=title, unit="image", disable=not files) as bar,
        saving(outputs, config.num_workers, bar.update) as save,
    ):
        for batch in loader:
            torch.manual_seed(config.seed)  # for random networks: batches are independent
            save(*_explain_batch(batch, explain))


def _advice(config: ExplainConfig) -> tuple[str, str]:
    """Advice for a full memory: which settings need less of it, and how to continue."""
    numbers = {"batch_size": config.batch_size, "num_workers": config.num_workers}
    smaller = [f"{name} < {number}" for name, number in numbers.items() if number > 1]
    again = same_command(overwrite=config.overwrite)
    return (
        ", or ".join([*smaller, "smaller images"]),
        f"What is explained is kept, and {again} goes on.",
    )


def _numbered(batches: Sequence[Sequence[object]]) -> list[list[int]]:
    """Number the items of batches from 0 on; batches without items are left out."""
    numbers, start = [], 0
    for batch in filter(len, batches):
        numbers.append(list(range(start, start + len(batch))))
        start += len(batch)
    return numbers


def _explain_batch(
    batch: Sequence[InputImage | BrokenImage], explain: BatchExplainer
) -> tuple[list[Explanation], list[BrokenImage]]:
    """Explain the images of a batch: one result for each, whatever happens to others."""
    broken = [item for item in batch if isinstance(item, BrokenImage)]
    explanations: list[Explanation] = []
    for images in same_size(item for item in batch if isinstance(item, InputImage)):
        for result in explain(images):
            if isinstance(result, BrokenImage):
                broken.append(result)
            else:
                explanations.append(result)
    return explanations, broken


def _finish(job: Job) -> tuple[Index, int, Path | None]:
    """Write the gallery and the list of broken images, once all partitions are finished.

    Returns:
        Index of the store, number of images left to explain, and first page of the gallery; None
        if no gallery was written.
    """
    outputs = job.outputs
    with outputs.locks() as locks, locks.one_at_a_time():
        index = outputs.store.index()
        left = sum(not (name in index.places or name in index.broken) for name in job.names)
        if left:
            return index, left, None
        outputs.list_broken(index.broken[name] for name in job.names if name in index.broken)
        entries = [
            (place.sufficiency or 0.0, partial(entry_at, place))
            for _, place in sorted(index.places.items())
            if place.entry is not None
        ]
        if not (entries and outputs.gallery):
            return index, 0, None
        broken = [line_of(index.broken[name]) for name in job.names if name in index.broken]
        gallery = write_gallery(
            entries,
            outputs.directory,
            title=job.title,
            label=job.label,
            panel=outputs.panel_link,
            broken=broken,
        )
        return index, 0, gallery


def _objective(job: Job, index: Index, names: Iterable[str]) -> list[float] | None:
    """Mean objective before and after refinement; None if nothing was refined."""
    if not job.config.refine_steps:
        return None
    store = job.outputs.store
    found = [
        store.read(index.places[name]).values["objective"] for name in names if name in index.places
    ]
    return np.mean(found, axis=0).tolist() if found else None
