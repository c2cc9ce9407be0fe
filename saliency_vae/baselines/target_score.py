"""The score that a method attributes to the pixels: one number for each image."""

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


@torch.no_grad()
def asked(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    """Target that a batch asks about; where it asks nothing, the classifier's own decision.

    Args:
        batch: Images as float in [0, 1], (B, 3, H, W), and perhaps their target or decision.
        classifier: Classifier that decides where the batch does not know its decision.

    Returns:
        Target, weights of the logits, (B, classes).

    Example:
        >>> brightness = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        >>> _ = nn.init.ones_(brightness[1].weight), nn.init.constant_(brightness[1].bias, -6)
        >>> classifier = FrozenClassifier(brightness, name="bright", output="sigmoid")
        >>> images = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
        >>> asked({"image": images}, classifier)
        tensor([[-1.],
                [ 1.]])
    """
    for given in ("target", "decision"):
        if given in batch:
            found: Tensor = batch[given]
            return found
    return classifier.decide(classifier(batch["image"]))


def each_image(batch: Batch) -> Iterator[Batch]:
    """Split a batch into batches of one image, for methods whose views of one image are many.

    Args:
        batch: Images with their target or decision, where they are known.
    """
    for place in range(len(batch["image"])):
        one: Batch = {"image": batch["image"][place : place + 1]}
        if "decision" in batch:
            one["decision"] = batch["decision"][place : place + 1]
        if "target" in batch:
            one["target"] = batch["target"][place : place + 1]
        yield one


class TargetScore(nn.Module):
    """Logit of a target; of several labels, the sum of their logits, each with its sign.

    Args:
        classifier: Classifier that is asked.
    """

    def __init__(self, classifier: FrozenClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for targets (B, classes): (B,)."""
        logits: Tensor = self.classifier(images)
        return (logits * target).sum(1)


class TargetProbability(TargetScore):
    """Probability of a target; of several labels, that of all together."""

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for targets (B, classes): (B,), in [0, 1]."""
        return self.classifier.probability(self.classifier(images), target)


def copy_to_modify(classifier: FrozenClassifier) -> FrozenClassifier:
    """Copy a classifier's modules, which share their weights, so that hooks can be put on them.

    No module of the copy works in place, because a hook would see the output of a later module.
    """
    tensors = chain(classifier.parameters(), classifier.buffers())
    copied = copy.deepcopy(classifier, {id(tensor): tensor for tensor in tensors})
    for module in copied.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False
    return copied
