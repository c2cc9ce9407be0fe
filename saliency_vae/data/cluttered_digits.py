"""Data module of cluttered digits, the built-in data set."""

from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.data.digit_painter import Split


class ClutteredDigitsData(SaliencyDataModule):
    """Cluttered digits for training and testing an explainer.

    Args:
        image_size: Height and width in pixels, at least 32.
        train_size: Number of training images.
        val_size: Number of validation images.
        test_size: Number of test images, with masks.
        seed: Seed of the data set.
        batch_size: Images of a step, over all devices and accumulated batches.
        num_workers: Number of loader processes; 0 suits data in memory.

    Raises:
        ValueError: If a size is out of range.
    """

    has_test_set = True

    def __init__(
        self,
        image_size: int = 48,
        train_size: int = 16_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if image_size < 32:
            raise ValueError(f"Expected data.image_size >= 32 pixels. Found {image_size}.")
        for name, size in (("train", train_size), ("val", val_size), ("test", test_size)):
            if size < 1:
                raise ValueError(f"Expected data.{name}_size >= 1 image. Found {size}.")
        self.image_size = image_size
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        self._drawn: dict[Split, ClutteredDigits] = {}

    def setup(self, stage: str) -> None:
        """Draw the splits that the stage needs, each once."""
        if stage == "fit":
            self.train_set = self._draw("train")
        if stage in ("fit", "validate"):
            self.val_set = self._draw("val")
        if stage == "test":
            self.test_set = self._draw("test")

    def _draw(self, split: Split) -> ClutteredDigits:
        if split not in self._drawn:
            self._drawn[split] = ClutteredDigits(
                split, self.sizes[split], seed=self.seed, image_size=self.image_size, progress=True
            )
        return self._drawn[split]
