"""Targets: what is asked of a classifier, as weights of its logits.

A weight of 1 asks what speaks for a class or label, -1 what speaks against a label, and 0 does not
ask about it. The classifier's own decision is such a target: the most probable class of a softmax;
of independent labels each one, present or absent.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Output = Literal["softmax", "sigmoid"]  # one class of many, or independent labels


def decision(logits: Tensor, output: Output) -> Tensor:
    """Target that asks about the classifier's own decision.

    Args:
        logits: Logits, (B, classes).
        output: Kind of output.

    Returns:
        Target, (B, classes): one-hot for a softmax; for independent labels 1 where a label is more
        probable than not, and -1 elsewhere.

    Example:
        >>> decision(torch.tensor([[0.5, 2.0, -1.0]]), "softmax")
        tensor([[0., 1., 0.]])
        >>> decision(torch.tensor([[0.5, 2.0, -1.0]]), "sigmoid")
        tensor([[ 1.,  1., -1.]])
    """
    if output == "softmax":
        return class_target(logits.argmax(-1), logits)
    return torch.where(logits > 0, 1.0, -1.0).to(logits.dtype)


def class_target(classes: Tensor, logits: Tensor) -> Tensor:
    """Target that asks about one class or label of each image.

    Args:
        classes: Indices of the classes, (B,) int64.
        logits: Logits whose shape (B, classes) and type the target gets.

    Example:
        >>> class_target(torch.tensor([2]), torch.zeros(1, 3))
        tensor([[0., 0., 1.]])
    """
    return F.one_hot(classes, logits.shape[-1]).to(logits.dtype)


def log_odds(logits: Tensor, target: Tensor, output: Output) -> Tensor:
    """Log-odds that a prediction gives to a target; of several labels, summed over them.

    Unlike the probability they do not saturate.

    Args:
        logits: Logits of the prediction, (B, classes).
        target: Target, (B, classes).
        output: Kind of output.

    Returns:
        Log-odds, (B,), nats.

    Example:
        >>> log_odds(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 1.0]]), "softmax")
        tensor([3.])
    """
    if output == "sigmoid":
        return (logits * target).sum(-1)
    asked = target.argmax(-1, keepdim=True)
    others = logits.scatter(-1, asked, -math.inf).logsumexp(-1)
    return logits.gather(-1, asked).squeeze(-1) - others


def probability(logits: Tensor, target: Tensor, output: Output) -> Tensor:
    """Probability that a prediction gives to a target; of several labels, that of all together.

    Args:
        logits: Logits of the prediction, (B, classes).
        target: Target, (B, classes).
        output: Kind of output.

    Returns:
        Probability, (B,), in [0, 1].

    Example:
        >>> logits = torch.zeros(1, 2)
        >>> probability(logits, torch.tensor([[1.0, -1.0]]), "sigmoid")
        tensor([0.2500])
    """
    if output == "sigmoid":
        return (F.logsigmoid(logits * target) * target.abs()).sum(-1).exp()
    return logits.softmax(-1).gather(-1, target.argmax(-1, keepdim=True)).squeeze(-1)


def keeps_decision(logits: Tensor, target: Tensor, output: Output) -> Tensor:
    """Whether a prediction decides as the target asks.

    For a softmax the class asked about is the most probable one; of independent labels, each one
    asked about lies on the side of 1/2 that the target names.

    Args:
        logits: Logits of the prediction, (B, classes).
        target: Target, (B, classes).
        output: Kind of output.

    Returns:
        Agreement, (B,) bool.

    Example:
        >>> asked = torch.tensor([[1.0, 0.0, -1.0]])
        >>> keeps_decision(torch.tensor([[2.0, 9.0, -1.0]]), asked, "sigmoid")
        tensor([True])
    """
    if output == "softmax":
        return logits.argmax(-1) == target.argmax(-1)
    return (((logits > 0) == (target > 0)) | (target == 0)).all(-1)
