"""Targets: the classes or labels to explain, as weights of a classifier's logits.

A weight of 1 asks for evidence for a class or label, -1 for evidence against a label, and 0 leaves
it out. The classifier's own decision is a target, too: the most probable class of a softmax, or all
independent labels, each as present (1) or absent (-1).
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from saliency_vae.runtime.text import did_you_mean

Output = Literal["softmax", "sigmoid"]  # one class of many, or independent labels
# Weights of the logits (B, classes), or a function of the logits (N, classes) that returns such
# weights, (N, classes), or the scores to explain, (N,).
Target = Tensor | Callable[[Tensor], Tensor]


def class_target(classes: Tensor, logits: Tensor) -> Tensor:
    """Target for one class or label of each image.

    Args:
        classes: Indices of the classes, (B,) int64.
        logits: Logits (B, classes); the target gets their shape and dtype.

    Example:
        >>> class_target(torch.tensor([2]), torch.zeros(1, 3))
        tensor([[0., 0., 1.]])
    """
    return F.one_hot(classes, logits.shape[-1]).to(logits.dtype)


def as_target(
    asked: object, categories: Sequence[str] | None = None, output: Output = "softmax"
) -> Target | None:
    """Convert what a user asks about into a target.

    Args:
        asked: Index or name of a class; the class of each image, (B,) int, or their names; weights
            of the logits, (B, classes); a function of the logits (N, classes) to a score (N,), such
            as the difference of two logits; None for the decision.
        categories: Names of the classes.
        output: Kind of output. Weights may select one class of a softmax, or several labels.

    Returns:
        Target; None for the decision.

    Raises:
        ValueError: If it is none of these, there is no such class, or weights select several
            classes of a softmax. The returned function raises it for errors that depend on the
            logits: a class or number of classes that does not fit, or a wrong return value.

    Example:
        >>> target = as_target("cat", ["dog", "cat"])
        >>> target(torch.zeros(2, 2))
        tensor([[0., 1.],
                [0., 1.]])
    """
    if asked is None:
        return None
    if callable(asked):
        return _checked(asked, output)
    if isinstance(asked, str):
        asked = class_index(asked, categories)
    elif isinstance(asked, list | tuple) and all(isinstance(name, str) for name in asked):
        asked = [class_index(name, categories) for name in asked]
    try:
        asked = torch.as_tensor(asked)
    except (TypeError, ValueError, RuntimeError):
        raise _not_a_target(asked) from None
    if asked.is_floating_point() and asked.ndim == 2:
        _check_weights(asked, output)
        return asked
    if asked.is_floating_point() or asked.dtype == torch.bool or asked.ndim > 1:
        raise _not_a_target(f"{asked.dtype} of shape {tuple(asked.shape)}")
    if categories is not None:
        _check_classes(asked.reshape(-1).tolist(), len(categories))
    return _of_classes(asked.reshape(-1).long())


def _of_classes(classes: Tensor) -> Target:
    """Target for these classes, one for each image or one for all."""
    indices = classes.tolist()

    def choose(logits: Tensor) -> Tensor:
        _check_classes(indices, logits.shape[-1])
        if len(classes) not in (1, len(logits)):
            raise ValueError(f"Expected {len(logits)} targets, or one. Found {len(classes)}.")
        there = classes.to(logits.device, non_blocking=True)  # does not wait for a GPU
        return class_target(there.expand(len(logits)), logits)

    return choose


def _check_classes(indices: Sequence[int], number: int) -> None:
    if not all(0 <= index < number for index in indices):
        found = indices[0] if len(indices) == 1 else indices
        raise ValueError(f"Expected target in 0 to {number - 1}. Found {found}.")


def _check_weights(weights: Tensor, output: Output) -> None:
    """Refuse weights that ask nothing, or several classes of a softmax: one alone would count."""
    if not (weights.isfinite().all() and (weights != 0).any(-1).all()):
        raise ValueError(
            "Expected finite weights of the logits, at least one of them not 0 for each image. "
            "Found others."
        )
    one_class = ((weights != 0).sum(-1) == 1).all() and weights.amax(-1).gt(0).all()
    if output == "softmax" and not one_class:
        raise ValueError(
            "Expected weights of the logits that ask about one class of each image: 1, and 0 for "
            "all others. Found other weights: a function, such as lambda logits: logits[:, 0] - "
            "logits[:, 1], asks about several classes."
        )


def _checked(function: Callable[[Tensor], Tensor], output: Output) -> Target:
    """Wrap a user's function to check what it returns for logits."""

    def ask(logits: Tensor) -> Tensor:
        asked: object = function(logits)
        if not isinstance(asked, Tensor) or asked.shape not in (logits.shape[:1], logits.shape):
            found = tuple(asked.shape) if isinstance(asked, Tensor) else type(asked).__name__
            raise ValueError(
                f"Expected target, a function, to map logits {tuple(logits.shape)} to a score of "
                f"each image, ({len(logits)},), or to weights of the logits. Found {found}."
            )
        if asked.ndim == 2:
            _check_weights(asked, output)
        elif logits.requires_grad and not asked.requires_grad:
            raise ValueError(
                "Expected target, a function of the logits, to have a gradient. Found none "
                "(argmax, detach or a comparison within it?)."
            )
        return asked

    return ask


def class_index(name: str, categories: Sequence[str] | None) -> int:
    """Find the index of a class by its name, or by one of its comma-separated names.

    Args:
        name: Name, in upper or lower case; or the index, unless it is the name of a class.
        categories: Names of the classes.

    Raises:
        ValueError: If no class, or more than one, has the name.

    Example:
        >>> class_index("tiger cat", ["tabby, tabby cat", "tiger cat"])
        1
    """
    wanted = name.strip().lower()
    names = [category.lower() for category in categories or ()]
    found = [index for index, category in enumerate(names) if category == wanted] or [
        index for index, category in enumerate(names) if wanted in category.split(", ")
    ]
    if not found and wanted.isdecimal():
        return int(wanted)
    if len(found) != 1:
        said = f"{len(found)} classes" if found else "no class"
        known = [part for category in names for part in category.split(", ")]
        advice = did_you_mean(wanted, [*names, *known])
        if found:
            advice = f" Give its number, {' or '.join(map(str, found))}."
        if not names:
            advice = " This classifier's classes have no names: give categories, or a number."
        raise ValueError(
            f"Expected target to be the name or the number of a class. Found {said} called "
            f"{name!r}.{advice}"
        )
    return found[0]


def _not_a_target(found: object) -> ValueError:
    return ValueError(
        "Expected target to be a class, the classes of all images, weights of the logits (B, "
        f"classes) or a function of the logits. Found {found}."
    )
