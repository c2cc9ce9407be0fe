"""Scores per image on one device and on two."""

import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from saliency_vae.metrics.insertion_deletion import deletion_curve
from saliency_vae.metrics.localization import mask_iou, pointing_game
from saliency_vae.metrics.per_image import PerImage
from saliency_vae.metrics.uncertainty import reliability_table
from tests.conftest import SIZE, blob_classifier, blobs
from tests.faults.small_run import finish, start

N = 10


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Images, their maps and masks."""
    saliency = torch.rand(N, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    images = blobs(N)
    return images, saliency, images.mean(1) > 0.5


def metrics() -> tuple[PerImage, PerImage, PerImage]:
    """One of a number per image, one of a curve, one of a table."""
    curve = partial(deletion_curve, blob_classifier(), step=64)
    return PerImage(mask_iou), PerImage(curve), PerImage(reliability_table)


def update(all_metrics: tuple[PerImage, PerImage, PerImage], part: slice) -> None:
    images, saliency, mask = (tensor[part] for tensor in batch())
    iou, curve, table = all_metrics
    iou.update(saliency, mask)
    curve.update(images, saliency, 0 * images)
    table.update(saliency, mask)


def test_batches_add_up_to_the_whole() -> None:
    images, saliency, mask = batch()
    parts = metrics()
    for part in (slice(0, 3), slice(3, 4), slice(4, N)):
        update(parts, part)
    iou, curve, table = parts
    expected = mask_iou(saliency, mask)
    torch.testing.assert_close(iou.values(), expected)
    torch.testing.assert_close(iou.compute(), expected.mean())
    curves = deletion_curve(blob_classifier(), images, saliency, 0 * images, step=64)
    torch.testing.assert_close(curve.values(), curves)
    torch.testing.assert_close(curve.compute(), curves.mean(0))
    torch.testing.assert_close(table.compute(), reliability_table(saliency, mask).mean(0).float())


def test_keeps_hits_as_numbers_and_starts_anew_on_reset() -> None:
    _, saliency, mask = batch()
    metric = PerImage(partial(pointing_game, tolerance=2))
    seen = metric(saliency[:4], mask[:4])
    assert float(seen) == float(pointing_game(saliency[:4], mask[:4], 2).float().mean())
    metric.reset()
    metric.update(saliency[4:], mask[4:])
    assert metric.values().tolist() == pointing_game(saliency[4:], mask[4:], 2).tolist()
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute() == metric.compute()


def _on_device(rank: int, directory: str) -> None:
    """Rank 0 sees three batches, rank 1 one: seven images and three."""
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/rendezvous", rank=rank, world_size=2
    )
    parts = [[slice(0, 2), slice(2, 3), slice(3, 7)], [slice(7, N)]]
    all_metrics = metrics()
    for part in parts[rank]:
        update(all_metrics, part)
    lonely = PerImage(pointing_game)  # only one device has images
    if rank == 1:
        lonely.update(*batch()[1:])
    found = [(metric.values(), metric.compute()) for metric in (*all_metrics, lonely)]
    update(all_metrics, slice(0, 1))  # gathering must leave the state for more
    found.append((all_metrics[0].values(), all_metrics[0].compute()))
    torch.save(found, f"{directory}/{rank}.pt")
    dist.destroy_process_group()


def test_two_devices_equal_one(tmp_path: Path) -> None:
    log = tmp_path / "log"  # of processes that have imported everything
    processes = [start(_on_device, rank, str(tmp_path), output=log) for rank in range(2)]
    assert [finish(process) for process in processes] == [0, 0], log.read_text()
    whole = metrics()
    update(whole, slice(0, N))
    lonely = PerImage(pointing_game)
    lonely.update(*batch()[1:])
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for metric, (values, mean) in zip((*whole, lonely), found[:4], strict=True):
            torch.testing.assert_close(values, metric.values())
            torch.testing.assert_close(mean, metric.compute())
        assert len(found[4][0]) == N + 2
        assert float(found[4][1]) == pytest.approx(float(found[4][0].mean()))
