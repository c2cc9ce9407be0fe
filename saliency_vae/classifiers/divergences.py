"""The reconstruction term: KL divergence of the classifier's predictions, nats per image."""

from torch import Tensor
from torch.nn import functional as F


def categorical_kl(target: Tensor, prediction: Tensor) -> Tensor:
    """KL(y || y') between softmax predictions y of the images and y' of the perturbed images.

    Args:
        target: Logits of y, (B, classes).
        prediction: Logits of y', (B, classes).

    Returns:
        Divergence, (B,), nats per image.

    Example:
        >>> import torch
        >>> certain, undecided = torch.tensor([[20.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> categorical_kl(certain, undecided)  # log 2
        tensor([0.6931])
    """
    log_y, log_y_perturbed = F.log_softmax(target, dim=-1), F.log_softmax(prediction, dim=-1)
    return (log_y.exp() * (log_y - log_y_perturbed)).sum(-1)


def bernoulli_kl(target: Tensor, prediction: Tensor) -> Tensor:
    """KL(y || y') between independent sigmoid predictions, summed over the labels.

    Args:
        target: Logits of y, (B, labels).
        prediction: Logits of y', (B, labels).

    Returns:
        Divergence, (B,), nats per image.

    Example:
        >>> import torch
        >>> certain, undecided = torch.tensor([[20.0, 20.0]]), torch.tensor([[0.0, 20.0]])
        >>> bernoulli_kl(certain, undecided)  # log 2
        tensor([0.6931])
    """
    y = target.sigmoid()
    positive = y * (F.logsigmoid(target) - F.logsigmoid(prediction))
    negative = (1 - y) * (F.logsigmoid(-target) - F.logsigmoid(-prediction))
    return (positive + negative).sum(-1)
