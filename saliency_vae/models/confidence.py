"""Confidence in an explanation: whether its kept view preserves the classifier's decision.

It is measured by a pass of the classifier, or estimated by a network without the classifier.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from saliency_vae.classifiers import FrozenClassifier, Output
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.models.conditional_encoder import Signals
from saliency_vae.models.depth import Depth
from saliency_vae.perturbations import blurred, perturb

CONFIDENCE_FRACTION = 0.05  # share of the pixels shown in the kept view


def kept_view(images: Tensor, posterior: SaliencyPosterior) -> Tensor:
    """Make kept views of images (B, 3, H, W): the most salient 5 % of the pixels over a blur."""
    return perturb(images, posterior.topk_mask(CONFIDENCE_FRACTION), blurred(images))


def measured_confidence(
    classifier: FrozenClassifier, images: Tensor, signals: Signals, posterior: SaliencyPosterior
) -> Tensor:
    """Measure the classifier's probability of the target on the kept views.

    Args:
        classifier: Classifier to explain, on the images' device.
        images: Images in [0, 1], (B, 3, H, W).
        signals: Its signals for these images, with the target; without one, the decision.
        posterior: Posterior of these images.

    Returns:
        Probability, (B,), in [0, 1].
    """
    asked = signals.target
    decided = classifier.decide(signals.logits) if asked is None else asked
    return classifier.probability(classifier(kept_view(images, posterior)), decided)


class ConfidenceNetwork(nn.Module):
    """Small distilled student of the classifier that estimates confidence (beyond the paper).

    It learns the classifier's predictions for whole and masked images. Its own predictions for an
    image and its kept view give the probability that the classifier's decision is the same on
    both; ``scale`` and ``offset`` calibrate it. ``depth`` detects images unlike the training
    images by early features; late ones only separate the classes, so noise can look like a digit.

    Args:
        classes: Number of classes, or labels, of the classifier.
        output: Output of the classifier, ``softmax`` or ``sigmoid``.
        width: Channels of the first block; the last block has four times as many.

    Raises:
        ValueError: If classes or width is not positive.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, classes: int, output: Output = "softmax", width: int = 16) -> None:
        super().__init__()
        if classes < 1 or width < 1:
            raise ValueError(
                f"Expected confidence_width >= 1 and at least one class. Found {width}, {classes}."
            )
        self.output = output
        self.imitate = nn.Sequential(
            Conv2dNormActivation(3, width, stride=2),
            Conv2dNormActivation(width, 2 * width),
            nn.MaxPool2d(2),
            Conv2dNormActivation(2 * width, 3 * width),
            Conv2dNormActivation(3 * width, 3 * width),
            nn.MaxPool2d(2),
            Conv2dNormActivation(3 * width, 4 * width),
            Conv2dNormActivation(4 * width, 4 * width),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(4 * width, classes),
        )
        self.register_buffer("scale", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))
        self.depth = Depth(2 * 3 * width)

    def forward(self, images: Tensor, kept: Tensor) -> Tensor:
        """Estimate the confidence in explanations.

        Args:
            images: Images in [0, 1], (B, 3, H, W).
            kept: Their kept views, (B, 3, H, W), see :func:`kept_view`.

        Returns:
            Probability that the classifier's decision is the same on the kept view, (B,).
        """
        return self.calibrated(self.score(images, kept))

    def features(self, images: Tensor) -> Tensor:
        """Means, then standard deviations, over the pixels, of the first two blocks' outputs.

        Returns:
            Features, (B, 2 x 3 width), float32.
        """
        first: Tensor = self.imitate[0](images)
        second: Tensor = self.imitate[1](first)
        maps = [found.flatten(2).float() for found in (first, second)]
        means, deviations = [found.mean(-1) for found in maps], [found.std(-1) for found in maps]
        return torch.cat([*means, *deviations], dim=1)

    def out_of_depth(self, images: Tensor) -> Tensor:
        """Whether images (B, 3, H, W) are unlike the training images, (B,) bool."""
        found: Tensor = self.depth(self.features(images))
        return found

    def calibrated(self, score: Tensor) -> Tensor:
        """Turn log-odds (B,) into calibrated probabilities."""
        return torch.sigmoid(self.scale * score + self.offset)

    def score(self, images: Tensor, kept: Tensor) -> Tensor:
        """Uncalibrated log-odds that image and kept view get the same decision, (B,).

        The arguments are those of :meth:`forward`.
        """
        first, second = self.imitate(images).float(), self.imitate(kept).float()
        if self.output == "softmax":
            agree = (first.softmax(-1) * second.softmax(-1)).sum(-1)
        else:
            both = first.sigmoid() * second.sigmoid()
            neither = first.neg().sigmoid() * second.neg().sigmoid()
            agree = (both + neither).prod(-1)
        return torch.logit(agree, eps=1e-6)
