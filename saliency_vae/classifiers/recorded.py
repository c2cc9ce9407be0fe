"""Rebuild the classifier that an explainer recorded, and accept no other."""

import json
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.data import Preprocessing

# Path of each builder, by the stable name that an explainer's file holds.
BUILDERS = {
    "torchvision": "saliency_vae.classifiers.builders.torchvision_classifier",
    "timm": "saliency_vae.classifiers.builders.timm_classifier",
    "huggingface": "saliency_vae.classifiers.builders.huggingface_classifier",
    "custom": "saliency_vae.classifiers.builders.custom_classifier",
    "cluttered_digits": "saliency_vae.classifiers.digits.cluttered_digits_classifier",
    "efficientnet_lite": "saliency_vae.classifiers.efficientnet_lite.efficientnet_lite_classifier",
    "randomised": "saliency_vae.classifiers.randomised.randomised_classifier",
}
# A file may request any of these but custom: they are code of this package that runs no other code,
# and new rows must be, too. The path of any other code must come from the user.
_ALLOWED = frozenset(BUILDERS.values()) - {BUILDERS["custom"]}


def build_recorded(
    expected: ClassifierIdentity,
    preprocessing: Preprocessing | None,
    node: dict[str, Any] | None = None,
    *,
    force: bool = False,
) -> FrozenClassifier:
    """Build the classifier that an explainer was trained for.

    Args:
        expected: Identity recorded by the explainer.
        preprocessing: Preprocessing recorded by the explainer; None if it recorded none.
        node: Hydra node of the classifier; by default the recorded one.
        force: Accept the classifier even if the explainer was trained for another one, or on
            images that were preprocessed differently.

    Raises:
        ValueError: If it is another classifier or preprocesses images differently, or if the
            record does not say how to build it.
    """
    classifier = build_classifier(node or _node(expected))
    if not force:
        classifier.identity().check(expected)
        _check_preprocessing(classifier.preprocessing, preprocessing)
    if node is None:
        classifier.weights = expected.weights  # not the name of a copied file
    return classifier


def build_classifier(node: dict[str, Any]) -> FrozenClassifier:
    """Build the classifier of a Hydra node."""
    try:
        classifier: FrozenClassifier = instantiate(node, _convert_="all")
    except InstantiationException as error:
        raise (error.__cause__ or error) from None  # the builder's error without Hydra's
    return classifier


def _check_preprocessing(found: Preprocessing, expected: Preprocessing | None) -> None:
    """Refuse a preprocessing other than that of the images the explainer was trained on."""
    if expected is not None and found != expected:
        raise ValueError(
            "Expected a classifier whose images are preprocessed as those that this explainer was "
            f"trained on, {expected}. Found {found}. force=true explains with it all the same."
        )


def _node(identity: ClassifierIdentity) -> dict[str, Any]:
    """Hydra node recorded for a classifier, if it may be built without the user naming it."""
    builder = identity.builder
    target = str(None if builder is None else builder.get("_target_"))
    if builder is None or target not in _ALLOWED:
        found = target if builder is None or target != BUILDERS["custom"] else _as_typed(builder)
        raise ValueError(
            f"Expected classifier=... on the command line, or explainer.attach_classifier("
            f"classifier) in Python, for {identity}: an explainer's file does not choose what code "
            f"is run. Found in the file, for you to check and type: {found}"
        )
    check_targets_allowed(builder, _ALLOWED, "the classifier that the explainer recorded")
    weights = built_in_weights(builder)
    if weights is not None and not weights.is_file():  # else it would be trained
        raise ValueError(
            f"Expected the built-in classifier that was explained at {weights}. Found no file. "
            "classifier=cluttered_digits classifier.path=FILE names another place, in Python "
            "explainer.attach_classifier(classifier)."
        )
    return dict(builder)


def built_in_weights(builder: Mapping[str, Any] | None) -> Path | None:
    """Weights file of a recorded built-in classifier, randomised or not.

    Args:
        builder: Recorded Hydra node of a classifier.

    Returns:
        The file, which need not exist; None for any other classifier.
    """
    if not isinstance(builder, Mapping):
        return None
    if builder.get("_target_") == BUILDERS["cluttered_digits"]:
        return Path(str(builder.get("path")))
    return built_in_weights(builder.get("classifier"))


def with_built_in_weights(builder: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Replace the weights file in a recorded node, if its classifier is a built-in one."""
    if builder.get("_target_") == BUILDERS["cluttered_digits"]:
        return {**builder, "path": str(path)}
    inner = builder.get("classifier")
    if not isinstance(inner, Mapping):
        return dict(builder)
    return {**builder, "classifier": with_built_in_weights(inner, path)}


def check_targets_allowed(node: Any, allowed: Collection[str], where: str) -> None:
    """Refuse a node from a file if building it with Hydra would run code that is not allowed.

    Args:
        node: Plain values, read from a file.
        allowed: Import paths that are allowed as a ``_target_`` at any depth of the node.
        where: What the node is, for messages.

    Raises:
        ValueError: If the node names another target, or holds an interpolation, which could produce
            one.
    """
    if isinstance(node, str) and "${" in node:
        raise ValueError(f"Expected {where} without interpolation. Found {node!r}.")
    if isinstance(node, dict):
        if "_target_" in node and str(node["_target_"]) not in allowed:
            raise ValueError(
                f"Expected {where} to be one of {', '.join(sorted(allowed))}. "
                f"Found {node['_target_']}."
            )
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            check_targets_allowed(item, allowed, where)


def _as_typed(builder: dict[str, Any]) -> str:
    """Command-line settings that build the user's classifier as in training."""
    typed = ["classifier=custom"]
    for name, value in builder.items():
        if name != "_target_" and value is not None:
            text = json.dumps(value, separators=(",", ":")).replace('"', "")  # as Hydra writes it
            typed.append(shlex.quote(f"classifier.{name}={text}"))
    return " ".join(typed)
