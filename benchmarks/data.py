"""Images a second of each data module against those of the training step.

Random JPEG pictures of ImageNet's usual size, 500x375; the step is the paper's, with ResNet-50.
Cut-outs, made at random unless given, are compared with the step of the universal recipe.

python benchmarks/data.py [--quick] [--photographs DIR]
"""

import os
import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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


def images_per_second(data: SaliencyDataModule, device: torch.device, epochs: int) -> list[float]:
    """Images per second of each epoch after the first, in which the workers start."""
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
    return rates[1:]


def pictures_modules(
    root: Path, number: int, common: dict[str, Any], workers: tuple[int, ...]
) -> dict[str, SaliencyDataModule]:
    """Data modules of digits and of picture files; writes the files."""
    tree, shards = root / "tree", root / "shards"
    write_pictures(tree, number)
    modules: dict[str, SaliencyDataModule] = {
        "cluttered_digits, in memory, 48x48": ClutteredDigitsData(
            train_size=number, val_size=2, **common
        )
    }
    for count in workers:
        settings = common | {"num_workers": count}
        modules[f"image_folder, {count} workers"] = ImageFolderData(str(tree), **settings)
        modules[f"imagenet, {count} workers"] = ImageNetData(str(tree), **settings)
    if find_spec("litdata") is None:
        return modules
    for split in ("train", "val"):
        files = sorted((tree / split).rglob("*.jpg"))
        write_split(files, shards / split, shard_bytes=4_000_000, num_workers=0, seed=0)
    for count in workers:
        settings = common | {"num_workers": count}
        modules[f"imagenet_streaming, {count} workers"] = ImageNetStreamingData(
            str(shards), **settings
        )
    return modules


def cutouts_modules(
    root: Path, number: int, common: dict[str, Any], workers: tuple[int, ...]
) -> dict[int, SaliencyDataModule]:
    """Data modules of cut-outs as the universal recipe takes them, by their number of workers."""
    directories = str(root / "cutouts"), str(root / "backgrounds")
    settings: dict[str, Any] = {"image_size": 224, "objects": (1, 3), "sizes": {"train": number}}
    return {
        count: CutoutsData(*directories, **settings, **common, num_workers=count)
        for count in workers
    }


def main() -> None:
    """Measure."""
    options = parser(__doc__)
    options.add_argument("--photographs", type=Path, help="directory of cutouts and backgrounds")
    given = options.parse_args()
    device, quick = pick_device(given.device), given.quick
    report = Report("data", "Data", device, quick)
    number, batch, epochs = (8, 4, 1) if quick else (128, 16, 3)
    workers: tuple[int, ...] = (0,) if quick else (0, WORKERS)
    if device.type != "cpu" and not quick:  # its step takes more images a second
        number, workers = 512, (WORKERS, os.cpu_count() or WORKERS)
    common = {"batch_size": batch}

    def rate(data: SaliencyDataModule) -> float:
        return statistics.median(images_per_second(data, device, epochs))

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        modules = pictures_modules(root, number, common, workers)
        rates = {name: rate(data) for name, data in modules.items()}
        photographs = given.photographs or root
        if given.photographs is None:
            write_cutouts(root)
        cutouts = cutouts_modules(photographs, number, common, workers)
        pasted = {count: rate(data) for count, data in cutouts.items()}
    step = rates["training step, 224x224, float32"] = training_rate(device, quick=quick)
    report.tables["Images a second, 500x375 JPEG to 224x224 unless named"] = [
        {"": name, "images/s": value, "x the step": value / step} for name, value in rates.items()
    ]
    step = recipe_rate(device, quick=quick)
    rows = {f"cutouts, {count} workers": value for count, value in pasted.items()}
    rows["training step of the universal recipe, 1 copy, float32"] = step
    made = "made at random" if given.photographs is None else "of photographs"
    report.tables[f"Images a second, cut-outs {made} at 224x224"] = [
        {"": name, "images/s": value, "x the step": value / step} for name, value in rows.items()
    ]
    usual = WORKERS if WORKERS in pasted else 0
    what = f"cut-outs at 224x224, {usual} workers, images/s / step"
    report.targets.append(Target(what, pasted[usual] / step, at_least=1))
    report.save(given.output)


if __name__ == "__main__":
    main()
