"""Images a second of each data module against those of the training step.

Random JPEG pictures of ImageNet's usual size, 500x375; the step is the paper's, with ResNet-50.

python benchmarks/data.py [--quick]
"""

import statistics
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import Report, arguments
from training_step import training_rate

from saliency_vae.data import Preprocessing
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.image_folder import ImageFolderData
from saliency_vae.data.imagenet import ImageNetData
from saliency_vae.data.imagenet_streaming import ImageNetStreamingData
from saliency_vae.data.shards import write_split


def write_pictures(root: Path, number: int) -> None:
    """Write smooth random pictures of about 100 kB each, as ImageNet's are."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        directory = root / split / "n01"
        directory.mkdir(parents=True)
        for i in range(number if split == "train" else 2):
            coarse = Image.fromarray(generator.integers(0, 256, (94, 125, 3), dtype=np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(
                directory / f"{i}.jpg", quality=95
            )


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


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    report = Report("data", "Data", options.device, options.quick)
    number, batch, epochs = (8, 4, 1) if options.quick else (128, 16, 3)
    with tempfile.TemporaryDirectory() as directory:
        root, shards = Path(directory) / "tree", Path(directory) / "shards"
        write_pictures(root, number)
        modules: dict[str, SaliencyDataModule] = {
            "cluttered_digits, in memory, 48x48": ClutteredDigitsData(
                train_size=number, val_size=2, batch_size=batch
            )
        }
        for workers in (0,) if options.quick else (0, 2):
            common: dict[str, Any] = {"batch_size": batch, "num_workers": workers}
            modules[f"image_folder, {workers} workers"] = ImageFolderData(str(root), **common)
            modules[f"imagenet, {workers} workers"] = ImageNetData(str(root), **common)
        if find_spec("litdata") is not None:
            for split in ("train", "val"):
                write_split(
                    sorted((root / split).rglob("*.jpg")),
                    shards / split,
                    shard_bytes=4_000_000,
                    num_workers=0,
                    seed=0,
                )
            for workers in (0,) if options.quick else (0, 2):
                modules[f"imagenet_streaming, {workers} workers"] = ImageNetStreamingData(
                    str(shards), batch_size=batch, num_workers=workers
                )
        rates = {
            name: statistics.median(images_per_second(data, options.device, epochs))
            for name, data in modules.items()
        }
    step = training_rate(options.device, quick=options.quick)
    rates["training step, 224x224, float32"] = step
    report.tables["Images a second, 500x375 JPEG to 224x224 unless named"] = [
        {"": name, "images/s": rate, "x the step": rate / step} for name, rate in rates.items()
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
