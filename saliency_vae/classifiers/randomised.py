"""A classifier with shuffled weights, for the sanity checks of Adebayo et al. (2018)."""

import copy

import torch

from saliency_vae.classifiers.frozen import FrozenClassifier


def randomised_classifier(classifier: FrozenClassifier, seed: int = 0) -> FrozenClassifier:
    """Copy a classifier, and shuffle the weights within each filter or matrix row of the copy.

    Each filter keeps its sum and its norm, so activations stay in the range that biases and
    batch-norm statistics expect. The positions and channels that it responds to are random.

    Args:
        classifier: Classifier to copy; it is left unchanged.
        seed: Seed of the shuffling.

    Returns:
        Randomised copy, whose name says so.

    Raises:
        ValueError: If there is nothing to shuffle, as in a quantised network.

    Example:
        >>> from torch import nn
        >>> classifier = FrozenClassifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), name="toy")
        >>> randomised = randomised_classifier(classifier)
        >>> before, after = classifier.network[1].weight, randomised.network[1].weight
        >>> bool((before == after).all()), bool((before.sort().values == after.sort().values).all())
        (False, True)
    """
    randomised = copy.deepcopy(classifier)
    generator = torch.Generator().manual_seed(seed)
    parameters = [each for each in randomised.network.parameters() if each.ndim > 1]
    if not parameters:
        raise ValueError(
            f"Expected classifier {classifier.name} to have weights that can be shuffled, "
            "parameters of at least two dimensions. Found none: is it quantised?"
        )
    for parameter in parameters:
        filters = parameter.data.flatten(1)
        order = torch.rand(filters.shape, generator=generator).argsort(1)
        shuffled = filters.gather(1, order.to(filters.device))
        parameter.data.copy_(shuffled.view_as(parameter))
    randomised.name = f"randomised/{classifier.name}"
    return randomised
