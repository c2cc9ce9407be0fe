"""Checking that a network is the one that an explainer explains, and its normalisation."""

from collections.abc import Sequence

import torch
from torch import nn

from saliency_vae.classifiers import ClassifierIdentity, FrozenClassifier, parameter_hash
from saliency_vae.models import Explainer


def check_explained(
    network: nn.Module,
    explainer: Explainer,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    advice: str,
) -> None:
    """Refuse a network other than the explained one, or another normalisation of its inputs.

    A network that contains the explained one, such as one that normalises images itself, is
    accepted with any normalisation. Nothing is refused if the explainer does not know which network
    it explains.

    Args:
        network: Network, or :class:`FrozenClassifier`.
        explainer: Explainer.
        mean: Mean that was subtracted from each channel of the inputs; None if none was.
        std: Standard deviation that divided each channel of the inputs; None if none did.
        advice: Sentence that says what to do about another network.

    Raises:
        ValueError: If the network or the normalisation is another one.
    """
    expected = _identity(explainer)
    if expected is None:
        return
    takes = expected.mean, expected.std
    if isinstance(network, FrozenClassifier):
        network, takes = network.network, ((0.0,) * 3, (1.0,) * 3)
    sha256 = parameter_hash(network)
    if sha256 != expected.sha256:
        if any(parameter_hash(part) == expected.sha256 for part in network.modules()):
            return
        raise ValueError(
            f"Expected the network that this explainer explains, {expected}. Found "
            f"{type(network).__name__} of SHA-256 {sha256[:12]}, another one. {advice}"
        )
    given = (0.0,) * 3 if mean is None else mean, (1.0,) * 3 if std is None else std
    if not all(map(_close, given, takes)):
        raise ValueError(
            "Expected mean and std by which the inputs of this network are normalised, "
            f"mean={_rounded(takes[0])} and std={_rounded(takes[1])}. Found mean={mean}, std={std}."
        )


def _identity(explainer: Explainer) -> ClassifierIdentity | None:
    if explainer.is_universal:
        return explainer.classifier.identity()
    return None if explainer.recorded is None else explainer.recorded.classifier


def _close(first: Sequence[float], second: Sequence[float]) -> bool:
    one, two = (torch.tensor([*map(float, values)]) for values in (first, second))
    return torch.allclose(one, two, atol=1e-4)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 6) for value in values]
