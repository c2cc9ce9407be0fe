"""The frozen classifier M: it takes images in [0, 1], normalises them itself, and gives logits."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from saliency_vae.classifiers.divergences import bernoulli_kl, categorical_kl
from saliency_vae.classifiers.identity import ClassifierIdentity, parameter_hash
from saliency_vae.classifiers.passes import count_passes
from saliency_vae.classifiers.targets import (
    Output,
    decision,
    each_log_odds,
    keeps_decision,
    log_odds,
    log_probability,
    probability,
)
from saliency_vae.data import Preprocessing


class FrozenClassifier(nn.Module):
    """A classifier that is never trained: always in eval mode, no parameter requires a gradient.

    Gradients do flow *through* it, into the image. The network is taken as it is, not copied: to
    go on training it, pass ``copy.deepcopy(network)``.

    Args:
        network: Network that maps normalised images (B, 3, H, W) to logits (B, classes).
        name: Name of the architecture, for the classifier's identity; by default that of the
            network's class.
        weights: Name of the weights, for the classifier's identity.
        mean: Value subtracted from each channel of images in [0, 1].
        std: Value that each channel is divided by after that, > 0.
        output: ``softmax`` for one class of many; ``sigmoid`` for independent labels, also for a
            single logit.
        preprocessing: Preprocessing of image files; by default their pixels are taken as they are.
        categories: Names of the classes.

    Raises:
        ValueError: If mean or std are not 3 numbers, a std is not positive, or output is unknown.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
        >>> classifier = FrozenClassifier(network, name="linear", mean=(0.5,) * 3, std=(0.2,) * 3)
        >>> classifier(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str | None = None,
        weights: str | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        output: Output = "softmax",
        preprocessing: Preprocessing | None = None,
        categories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                "Expected classifier.mean and classifier.std of 3 numbers, std > 0. "
                f"Found {list(mean)} and {list(std)}."
            )
        if output not in ("softmax", "sigmoid"):
            raise ValueError(f"Expected classifier.output softmax or sigmoid. Found {output!r}.")
        self.network = network.requires_grad_(False)
        self.register_buffer("mean", _per_channel(mean), persistent=False)
        self.register_buffer("std", _per_channel(std), persistent=False)
        self.output = output
        self.preprocessing = preprocessing or Preprocessing()
        self.name = name or type(network).__name__
        self.weights = weights
        self.categories = categories
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the argument."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W) in [0, 1]: logits (B, classes)."""
        count_passes(images.shape[0])  # len() would fix the batch size of an export
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits.float()

    def forward_uncompiled(self, images: Tensor) -> Any:
        """Output of the network itself for images (B, 3, H, W), without ``torch.compile``.

        Hooks need it, and a few images that are classified once are not worth a compilation.
        """
        count_passes(images.shape[0])  # len() would fix the batch size of an export
        return self.network.forward((images - self.mean) / self.std)

    def divergence(self, target: Tensor, prediction: Tensor) -> Tensor:
        """KL(y || y') of two predictions, the reconstruction term.

        Args:
            target: Logits of y, (B, classes).
            prediction: Logits of y', (B, classes).

        Returns:
            Divergence, (B,), nats per image.
        """
        kl = categorical_kl if self.output == "softmax" else bernoulli_kl
        return kl(target, prediction)

    def decide(self, logits: Tensor) -> Tensor:
        """Target of the classifier's own decision, see :func:`targets.decision`: (B, classes)."""
        return decision(logits, self.output)

    def log_odds(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log-odds that logits (B, classes) give to a target (B, classes): (B,), nats."""
        return log_odds(logits, target, self.output)

    def each_log_odds(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log-odds of the class, (B, 1), or of each label, (B, labels), that is asked about."""
        return each_log_odds(logits, target, self.output)

    def log_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log of the probability that logits (B, classes) give to a target: (B,), nats."""
        return log_probability(logits, target, self.output)

    def probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """Probability that logits (B, classes) give to a target (B, classes): (B,), in [0, 1]."""
        return probability(logits, target, self.output)

    def keeps_decision(self, logits: Tensor, target: Tensor) -> Tensor:
        """Whether logits (B, classes) decide as a target (B, classes) asks: (B,) bool."""
        return keeps_decision(logits, target, self.output)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Whether two predictions, logits (B, classes), are the same decision: (B,) bool."""
        return self.keeps_decision(second, self.decide(first))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities, in [0, 1], of logits (B, classes)."""
        return logits.softmax(-1) if self.output == "softmax" else logits.sigmoid()

    def top(self, logits: Tensor, number: int = 3) -> list[list[tuple[str, float]]]:
        """Names and probabilities of the most probable classes, for each image.

        Args:
            logits: Logits, (B, classes).
            number: Number of classes to name.
        """
        values, indices = self.probabilities(logits).topk(min(number, logits.shape[-1]))
        return [
            [(self.category(index), value) for index, value in zip(*row, strict=True)]
            for row in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def category(self, index: int) -> str:
        """Name of a class."""
        return f"class {index}" if self.categories is None else self.categories[index]

    def identity(self) -> ClassifierIdentity:
        """Identity of this classifier, which an explainer trained for it records."""
        return ClassifierIdentity(
            name=self.name,
            weights=self.weights,
            output=self.output,
            mean=tuple(self.mean.flatten().tolist()),
            std=tuple(self.std.flatten().tolist()),
            sha256=parameter_hash(self.network),
        )


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)[:, None, None]
