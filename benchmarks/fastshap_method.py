"""FastSHAP as a method to compare: a network predicts the Shapley values of an image's cells.

``benchmarks/fastshap.py`` trains it. From the root of the repository, two settings of
``python -m saliency_vae.evaluate`` add it to a comparison:

+baselines.fastshap._target_=benchmarks.fastshap_method.FastShap
+baselines.fastshap.directory=DIR
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier, parameter_hash
from saliency_vae.data import Batch
from saliency_vae.models.encoders import UNet, fold_batch_norm

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class ShapleyNetwork(nn.Module):
    """U-Net whose map, averaged over each cell of a grid, is the Shapley value of the cell.

    The sum of the values is arbitrary; :func:`benchmarks.fastshap.efficient` corrects it.

    Args:
        channels: Channels of the U-Net at each scale, finest first.
        grid: Number of cells along each side.
    """

    def __init__(self, channels: Sequence[int] = (8, 24, 48, 64), grid: int = 16) -> None:
        super().__init__()
        self.channels = list(channels)
        self.grid = grid
        self.unet = UNet(channels)

    def forward(self, images: Tensor) -> Tensor:
        """Shapley values (B, cells) of images (B, 3, H, W), the cells in reading order."""
        cells: Tensor = F.adaptive_avg_pool2d(self.unet(images)[:, 0], self.grid).flatten(1)
        return cells / cells.shape[1]  # all of them together change the value by about 1


def save_fastshap(
    network: ShapleyNetwork, classifier: FrozenClassifier, directory: Path, **facts: Any
) -> None:
    """Write a network so that :class:`FastShap` can read it.

    Args:
        network: Trained network.
        classifier: Classifier that it was trained for.
        directory: Directory to write to; made if needed.
        facts: Further facts about the training, plain values.
    """
    directory.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, directory / WEIGHTS)
    config = {
        "method": "FastSHAP (Jethani et al. 2022)",
        "classifier": str(classifier.identity()),
        "sha256": parameter_hash(classifier.network),
        "channels": network.channels,
        "grid": network.grid,
        **facts,
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


class FastShap:
    """Attribution method that takes the Shapley values from a trained network.

    They explain the classifier's own decision. Their sum is not corrected, because that would only
    add a constant to every pixel.

    Args:
        directory: Directory that ``benchmarks/fastshap.py`` wrote.

    Raises:
        ValueError: If the directory holds no such network.
    """

    def __init__(self, directory: str | Path) -> None:
        directory = Path(directory)
        try:
            self.config: dict[str, Any] = json.loads((directory / CONFIG).read_text())
            network = ShapleyNetwork(self.config["channels"], self.config["grid"])
            network.load_state_dict(load_file(directory / WEIGHTS))
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"Expected {directory} to be written by python -m benchmarks.fastshap. "
                f"Found {type(error).__name__}: {error}"
            ) from None
        self.network = fold_batch_norm(network).to(memory_format=torch.channels_last)
        self._classifier: FrozenClassifier | None = None  # the one that was checked last

    @torch.inference_mode()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`.

        Raises:
            ValueError: If a target is given, or the network was trained for another classifier.
        """
        if "target" in batch:
            raise ValueError(
                "Expected images without a target: this FastSHAP explains the decision alone. "
                "Found a target. Leave it out of class-conditional comparisons."
            )
        self._check(classifier)
        images = batch["image"]
        cells: Tensor = self.network.to(images.device)(images)
        grid = cells.view(len(images), 1, *2 * (self.config["grid"],))
        return F.interpolate(grid, images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]

    def _check(self, classifier: FrozenClassifier) -> None:
        """Refuse a classifier with other weights. It is hashed once, not in every batch."""
        if classifier is self._classifier:
            return
        if parameter_hash(classifier.network) != self.config["sha256"]:
            raise ValueError(
                f"Expected the classifier that FastSHAP was trained for, "
                f"{self.config['classifier']}. Found {classifier.identity()}. Train it for this "
                "one with python -m benchmarks.fastshap."
            )
        self._classifier = classifier
