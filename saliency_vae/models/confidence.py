"""The confidence in a posterior: what its kept view leaves of the classifier's decision.

Measured by a pass of the classifier, or estimated by a network without one.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from saliency_vae.classifiers import FrozenClassifier, Output
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.models.conditional_encoder import Signals
from saliency_vae.models.depth import Depth
from saliency_vae.perturbations import blurred, perturb

CONFIDENCE_FRACTION = 0.05  # share of the pixels in the kept view that confidence is about


def kept_view(images: Tensor, posterior: SaliencyPosterior) -> Tensor:
    """Keep the most salient 5 % of images (B, 3, H, W) over a blur: what confidence is about."""
    return perturb(images, posterior.topk_mask(CONFIDENCE_FRACTION), blurred(images))


def measured_confidence(
    classifier: FrozenClassifier, images: Tensor, signals: Signals, posterior: SaliencyPosterior
) -> Tensor:
    """Measure the probability of what is asked about on the kept views.

    Args:
        classifier: Classifier that is explained, on the images' device.
        images: Images in [0, 1], (B, 3, H, W).
        signals: Its signals for these images, which hold its decision.
        posterior: Posterior of these images.

    Returns:
        Probability, (B,), in [0, 1].
    """
    asked = signals.target
    decided = classifier.decide(signals.logits) if asked is None else asked
    return classifier.probability(classifier(kept_view(images, posterior)), decided)


class ConfidenceNetwork(nn.Module):
    """Small student of the classifier, distilled, that gives the confidence (beyond the paper).

    It learns the classifier's predictions for whole and for masked images. From its own predictions
    for an image and its kept view follows the probability that the classifier decides alike on
    both; ``scale`` and ``offset`` calibrate it. ``depth`` tells by early features which images are
    unlike those that it was trained on; the late ones hold what tells the classes apart, by which
    noise looks like a digit.

    Args:
        classes: Number of classes, or labels, of the classifier.
        output: Output of the classifier, ``softmax`` or ``sigmoid``.
        width: Channels of the first block; the last block has four times as many.

    Raises:
        ValueError: If a number is not positive.
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
            Probability that the classifier decides alike on the kept view, (B,).
        """
        return self.calibrated(self.score(images, kept))

    def features(self, images: Tensor) -> Tensor:
        """Means, then deviations, over the pixels of what the first two blocks find.

        Returns:
            Features, (B, 2 x 3 width), float32.
        """
        first: Tensor = self.imitate[0](images)
        second: Tensor = self.imitate[1](first)
        maps = [found.flatten(2).float() for found in (first, second)]
        means, deviations = [found.mean(-1) for found in maps], [found.std(-1) for found in maps]
        return torch.cat([*means, *deviations], dim=1)

    def out_of_depth(self, images: Tensor) -> Tensor:
        """Whether images (B, 3, H, W) are unlike those of the training, (B,) bool."""
        found: Tensor = self.depth(self.features(images))
        return found

    def calibrated(self, score: Tensor) -> Tensor:
        """Turn log-odds (B,) into calibrated probabilities."""
        return torch.sigmoid(self.scale * score + self.offset)

    def score(self, images: Tensor, kept: Tensor) -> Tensor:
        """Log-odds, not calibrated, that the student decides alike on image and kept view, (B,).

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
