"""The score of each image, a single number, that a method attributes to the pixels."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.data.batch import rows
from saliency_vae.metrics import views_at_once


@torch.no_grad()
def target_of(batch: Batch, classifier: FrozenClassifier) -> Tensor:
    """Target of a batch, or the classifier's own decision if it has none.

    Args:
        batch: Images as float in [0, 1], (B, 3, H, W), and optionally their target or decision.
        classifier: Classifier that decides if the batch has neither.

    Returns:
        Target, weights of the logits, (B, classes).

    Example:
        >>> brightness = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        >>> _ = nn.init.ones_(brightness[1].weight), nn.init.constant_(brightness[1].bias, -6)
        >>> classifier = FrozenClassifier(brightness, name="bright", output="sigmoid")
        >>> images = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
        >>> target_of({"image": images}, classifier)
        tensor([[-1.],
                [ 1.]])
    """
    for given in ("target", "decision"):
        if given in batch:
            found: Tensor = batch[given]
            return found
    return classifier.decide(classifier(batch["image"]))


def each_image(batch: Batch) -> Iterator[Batch]:
    """Split a batch into batches of one image, for methods with many views of each image.

    Args:
        batch: Images with their target or decision, where known.
    """
    for place in range(len(batch["image"])):
        yield rows(batch, slice(place, place + 1))


class TargetScore(nn.Module):
    """Logit of the target; for several labels, the sum of their signed logits.

    Args:
        classifier: Classifier to explain.
    """

    def __init__(self, classifier: FrozenClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for targets (B, classes): (B,)."""
        logits: Tensor = self.classifier(images)
        return (logits * target).sum(1)


class ScoreInParts(TargetScore):
    """The same score, computed with its gradient to the images for a few images at a time.

    Large batches take much memory and are slow on a CPU, because their feature maps exceed its
    cache. Copies of one image with several targets share one forward pass. Higher derivatives are
    not supported.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> score = ScoreInParts(FrozenClassifier(network, name="linear"))
        >>> images = torch.rand(5, 3, 2, 2, requires_grad=True)
        >>> score(images, torch.tensor([[0.0, 1.0]]).expand(5, 2)).sum().backward()
        >>> torch.allclose(images.grad, network[1].weight[1].view(3, 2, 2).expand(5, 3, 2, 2))
        True
    """

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for targets (B, classes): (B,)."""
        score = super().forward
        if torch.is_grad_enabled() and images.requires_grad:
            found: Tensor = _InParts.apply(images, target, score)
            return found
        return torch.cat([score(*part) for part in _parts(images, target)])


class _InParts(torch.autograd.Function):
    """Computes a score together with its gradient, part by part."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, target: Tensor, score: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        scores: list[Tensor] = []
        gradients: list[Tensor] = []
        for some, of_some in _parts(images, target):
            with torch.enable_grad():
                one_image = len(some) > 1 and bool((some[1:] == some[:1]).all())
                leaf = (some[:1] if one_image else some).detach().requires_grad_()
                found = score(leaf, of_some)
                for each in found if one_image else [found.sum()]:
                    gradients += torch.autograd.grad(each, leaf, retain_graph=one_image)
            scores.append(found.detach())
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(scores)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_score: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return of_score[:, None, None, None] * gradient, None, None


def _parts(images: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    size = views_at_once(images)
    return zip(torch.split(images, size), torch.split(target, size), strict=True)


class TargetProbability(TargetScore):
    """Probability of the target; for several labels, their joint probability."""

    def forward(self, images: Tensor, target: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for targets (B, classes): (B,), in [0, 1]."""
        return self.classifier.probability(self.classifier(images), target)
