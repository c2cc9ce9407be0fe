"""Images a second of each data module against those of the training step.

Random JPEG pictures of ImageNet's usual size, 500x375; the step is the paper's, with ResNet-50.
Cut-outs, made at random unless given, are compared with the step of the universal recipe.

python benchmarks/data.py [--quick] [--photographs DIR]
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageDraw
from timing import Report, Target, parser
from training_step import training_rate
from universal import recipe_rate

from saliency_vae.data import Preprocessing
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.image_folder import ImageFolderData
from saliency_vae.data.imagenet import ImageNetData
from saliency_vae.data.imagenet_streaming import ImageNetStreamingData
from saliency_vae.data.shards import write_split
from saliency_vae.runtime.device import pick_device

WORKERS = 2  # the modules' default


def picture(generator: np.random.Generator, width: int, height: int) -> Image.Image:
    """A smooth random picture."""
    coarse = generator.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_pictures(root: Path, number: int) -> None:
    """Write pictures of about 100 kB each, as ImageNet's are."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        directory = root / split / "n01"
        directory.mkdir(parents=True)
        for i in range(number if split == "train" else 2):
            picture(generator, 500, 375).save(directory / f"{i}.jpg", quality=95)


def write_cutouts(root: Path) -> None:
    """Write elliptic cut-outs and photographs to cut them into, twelve each."""
    generator = np.random.default_rng(0)
    for name in ("cutouts", "backgrounds"):
        (root / name).mkdir(parents=True)
    for i in range(12):
        picture(generator, 900, 600).save(root / f"backgrounds/{i}.jpg", quality=95)
        cutout = picture(generator, 240, 180)
        alpha = Image.new("L", cutout.size)
        ImageDraw.Draw(alpha).ellipse((0, 0, 239, 179), fill=255)
        cutout.putalpha(alpha)
        cutout.save(root / f"cutouts/{i}.png")


def images_per_second(data: SaliencyDataModule, device: torch.device, epochs: int) -> float:
    """Images per second of an epoch after the first, in which the workers start; the median."""
    progress = SimpleNamespace(current=SimpleNamespace(ready=0))
    trainer: Any = SimpleNamespace(
        world_size=1,
        global_rank=0,
        current_epoch=0,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(root_device=device),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )
    data.trainer = trainer
    data.preprocessing = Preprocessing(resize_size=256, crop_size=(224, 224))
    data.setup("fit")
    loader, rates = data.train_dataloader(), []
    for epoch in range(1 + epochs):
        trainer.current_epoch = epoch
        start, number = time.perf_counter(), 0
        for batch in loader:
            batch["image"] = batch["image"].to(device)
            number += len(data.on_after_batch_transfer(batch, 0)["image"])
        rates.append(number / (time.perf_counter() - start))
    return statistics.median(rates[1:])


@dataclass(frozen=True)
class Sizes:
    """Numbers of images, of epochs, and of the loaders' processes."""

    images: int
    batch: int
    epochs: int
    workers: tuple[int, ...]

    @classmethod
    def of(cls, device: torch.device, *, quick: bool) -> Self:
        """Sizes for a device, whose step takes more images a second if it is no CPU."""
        if quick:
            return cls(8, 4, 1, (0,))
        if device.type == "cpu":
            return cls(128, 16, 3, (0, WORKERS))
        return cls(512, 16, 3, (WORKERS, os.cpu_count() or WORKERS))


def pictures_modules(root: Path, sizes: Sizes) -> dict[str, SaliencyDataModule]:
    """Data modules of digits and of picture files; writes the files."""
    tree, shards, batch = root / "tree", root / "shards", {"batch_size": sizes.batch}
    write_pictures(tree, sizes.images)
    modules: dict[str, SaliencyDataModule] = {
        "cluttered_digits, in memory, 48x48": ClutteredDigitsData(
            train_size=sizes.images, val_size=2, batch_size=sizes.batch
        )
    }
    for count in sizes.workers:
        common: dict[str, Any] = batch | {"num_workers": count}
        modules[f"image_folder, {count} workers"] = ImageFolderData(str(tree), **common)
        modules[f"imagenet, {count} workers"] = ImageNetData(str(tree), **common)
    if find_spec("litdata") is None:
        return modules
    for split in ("train", "val"):
        files = sorted((tree / split).rglob("*.jpg"))
        write_split(files, shards / split, shard_bytes=4_000_000, num_workers=0, seed=0)
    for count in sizes.workers:
        modules[f"imagenet_streaming, {count} workers"] = ImageNetStreamingData(
            str(shards), batch_size=sizes.batch, num_workers=count
        )
    return modules


def pictures(report: Report, sizes: Sizes) -> None:
    """Compare digits and picture files with the paper's step."""
    with tempfile.TemporaryDirectory() as directory:
        rates = {
            name: images_per_second(data, report.device, sizes.epochs)
            for name, data in pictures_modules(Path(directory), sizes).items()
        }
    step = rates["training step, 224x224, float32"] = training_rate(
        report.device, quick=report.quick
    )
    report.tables["Images a second, 500x375 JPEG to 224x224 unless named"] = [
        {"": name, "images/s": rate, "x the step": rate / step} for name, rate in rates.items()
    ]


def cutouts(report: Report, sizes: Sizes, photographs: Path | None) -> None:
    """Compare cut-outs with the step of the universal recipe, which takes them."""
    rates = {}
    with tempfile.TemporaryDirectory() as directory:
        root = photographs or Path(directory)
        if photographs is None:
            write_cutouts(root)
        for count in sizes.workers:
            data = CutoutsData(
                str(root / "cutouts"),
                str(root / "backgrounds"),
                image_size=224,
                objects=(1, 3),
                sizes={"train": sizes.images},
                batch_size=sizes.batch,
                num_workers=count,
            )
            name = f"cutouts, {count} workers"
            rates[name] = images_per_second(data, report.device, sizes.epochs)
    step = recipe_rate(report.device, quick=report.quick)
    usual = WORKERS if WORKERS in sizes.workers else 0
    what = f"cut-outs at 224x224, {usual} workers, images/s / step"
    report.targets.append(Target(what, rates[f"cutouts, {usual} workers"] / step, at_least=1))
    rates["training step of the universal recipe, 1 copy, float32"] = step
    made = "made at random" if photographs is None else "of photographs"
    report.tables[f"Images a second, cut-outs {made} at 224x224"] = [
        {"": name, "images/s": rate, "x the step": rate / step} for name, rate in rates.items()
    ]


def main() -> None:
    """Measure; the report is written after cut-outs, which have a target, and at the end."""
    options = parser(__doc__)
    options.add_argument("--photographs", type=Path, help="directory of cutouts and backgrounds")
    given = options.parse_args()
    device = pick_device(given.device)
    report, sizes = Report("data", "Data", device, given.quick), Sizes.of(device, quick=given.quick)
    cutouts(report, sizes, given.photographs)
    report.save(given.output)
    pictures(report, sizes)
    report.save(given.output)


if __name__ == "__main__":
    main()
