"""The frozen classifier to explain: any torchvision or timm model, or the user's own module.

A :class:`FrozenClassifier` takes images in [0, 1] and normalises them itself.
"""

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from saliency_vae.classifiers.divergences import Output, bernoulli_kl, categorical_kl
from saliency_vae.classifiers.identity import ClassifierIdentity, parameter_hash
from saliency_vae.data import Preprocessing


class FrozenClassifier(nn.Module):
    """A classifier that is never trained: always in eval mode, no parameter requires a gradient.

    Gradients do flow *through* it, into the image. The network is taken as it is, not copied: to
    go on training it, give ``copy.deepcopy(network)``.

    Args:
        network: Maps normalised images (B, 3, H, W) to logits (B, classes).
        name: Says which architecture, for its identity.
        weights: Says which weights, for its identity.
        mean: Subtracted from each channel.
        std: Divides each channel.
        output: ``softmax`` for one class of many; ``sigmoid`` for independent labels, also for a
            single logit.
        preprocessing: Of image files.
        categories: Names of the classes.

    Raises:
        ValueError: If a std is not positive or output is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
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
        self.name = name
        self.weights = weights
        self.categories = categories
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W) in [0, 1]: logits (B, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits.float()

    def eager(self, images: Tensor) -> Any:
        """Give what the network itself gives, not compiled: for hooks, and for few images once."""
        return self.network.forward((images - self.mean) / self.std)

    def divergence(self, target: Tensor, prediction: Tensor) -> Tensor:
        """KL(y || y') of two predictions given as logits (B, classes): (B,), nats per image."""
        kl = categorical_kl if self.output == "softmax" else bernoulli_kl
        return kl(target, prediction)

    def agreement(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Whether two predictions decide alike, (B,) bool.

        Softmax: the same top-1 class. Sigmoid: the same side of 1/2 for every label.
        """
        if self.output == "softmax":
            return target.argmax(-1) == prediction.argmax(-1)
        return ((target > 0) == (prediction > 0)).all(-1)

    def decision_log_odds(self, decided: Tensor, logits: Tensor) -> Tensor:
        """Log-odds, by some logits, of what others decide; of sigmoid labels their sum.

        Unlike the probability it does not saturate.

        Args:
            decided: Logits that decide, (B, classes).
            logits: That the decisions are weighed by, (B, classes).

        Returns:
            Log-odds, (B,), nats.
        """
        if self.output == "sigmoid":
            return torch.where(decided > 0, logits, -logits).sum(-1)
        top = decided.argmax(-1, keepdim=True)
        others = logits.scatter(-1, top, -math.inf).logsumexp(-1)
        return logits.gather(-1, top).squeeze(-1) - others

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (B, classes) into class probabilities in [0, 1]."""
        return logits.softmax(-1) if self.output == "softmax" else logits.sigmoid()

    def top(self, logits: Tensor, number: int = 3) -> list[list[tuple[str, float]]]:
        """Name the most probable classes of logits (B, classes), each with its probability."""
        values, indices = self.probabilities(logits).topk(min(number, logits.shape[-1]))
        return [
            [(self._category(index), value) for index, value in zip(*row, strict=True)]
            for row in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def _category(self, index: int) -> str:
        return f"class {index}" if self.categories is None else self.categories[index]

    def identity(self) -> ClassifierIdentity:
        """Say which classifier this is: what an explainer trained for it records."""
        return ClassifierIdentity(
            name=self.name,
            weights=self.weights,
            output=self.output,
            mean=tuple(self.mean.flatten().tolist()),
            std=tuple(self.std.flatten().tolist()),
            sha256=parameter_hash(self.network),
        )


def check_frozen(classifier: object) -> None:
    """Refuse what is no frozen classifier, such as a plain network.

    Raises:
        ValueError: Saying what is.
    """
    if not isinstance(classifier, FrozenClassifier):
        raise ValueError(
            "Expected a saliency_vae.classifiers.frozen.FrozenClassifier, which wraps a network and "
            f"its normalisation. Found {type(classifier).__name__}."
        )


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)[:, None, None]
