"""Images of one colour each, and a classifier of colours whose explanation is known."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.targets import Output
from saliency_vae.data import Batch
from saliency_vae.evaluation.images import Images

COLOURS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]]).float()
SIZE = 8
CPU = torch.device("cpu")


class ColourNetwork(nn.Module):
    """One logit for each colour: how much of the image has it."""

    def __init__(self, size: int | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(6.0))
        self.size = size

    def has_colour(self, images: Tensor) -> Tensor:
        """Whether each pixel has each colour, (B, colours, H, W)."""
        distance = (images[:, None] - COLOURS[:, :, None, None]).abs().amax(2)
        return (distance < 0.3).float()

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W) in [0, 1]."""
        if self.size is not None:
            assert images.shape[-1] == self.size, f"Expected {self.size} pixels."
        return self.scale * (self.has_colour(images).mean((2, 3)) - 0.4)


def colour_classifier(output: Output = "softmax", size: int | None = None) -> FrozenClassifier:
    return FrozenClassifier(ColourNetwork(size), name="colours", output=output)


def where(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    """The true explanation: where the image has the colour that is asked about."""
    network = classifier.network
    assert isinstance(network, ColourNetwork)
    shown = network.has_colour(batch["image"])
    return (shown * batch["target"][:, :, None, None]).sum(1)


class Painted(Dataset[Batch]):
    """Images whose left columns have one colour, and the others a second one or grey.

    Args:
        painted: For each image its colour, the number of its columns, and the second colour.
    """

    def __init__(self, painted: Sequence[tuple[int, int, int | None]]) -> None:
        self.painted = painted

    def __len__(self) -> int:
        return len(self.painted)

    def __getitem__(self, index: int) -> Batch:
        colour, columns, second = self.painted[index]
        image = torch.full((3, SIZE, SIZE), 100, dtype=torch.uint8)
        if second is not None:
            image[:] = (255 * COLOURS[second, :, None, None]).to(torch.uint8)
        image[:, :, :columns] = (255 * COLOURS[colour, :, None, None]).to(torch.uint8)
        image[:, 0, 0] = index  # tells the images apart
        return {"image": image, "index": torch.tensor(index)}


def images(painted: Sequence[tuple[int, int, int | None]], batch_size: int = 4) -> Images:
    dataset = Painted(painted)
    return Images(dataset, name="paintings", batch_size=batch_size, num_workers=0, device=CPU)


def whole(number: int) -> Images:
    """Images of one colour each, in turn."""
    return images([(index % 5, SIZE, None) for index in range(number)])
