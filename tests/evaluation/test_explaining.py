"""A batch is explained in parts on a CPU, and maps are checked."""

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.explaining import explain_batch
from saliency_vae.metrics import views_at_once


def test_few_images_at_once_and_all_that_is_known_of_them() -> None:
    images = torch.rand(9, 3, 256, 256)
    batch: Batch = {"image": images, "target": torch.arange(9)[:, None].float()}
    sizes = []

    def method(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        sizes.append(len(batch["image"]))
        return batch["image"].sum(1) * batch["target"][:, :, None]

    classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(1, 2)), name="unused")
    maps = explain_batch(method, batch, classifier)
    assert max(sizes) == views_at_once(images) < 9
    assert sum(sizes) == 9
    assert torch.equal(maps, images.sum(1) * torch.arange(9.0)[:, None, None])
