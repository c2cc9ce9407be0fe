"""The classifier that an explainer explains, and no other."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from saliency_vae.classifiers import (
    FrozenClassifier,
    check_identity,
    describe,
    recorded_identity,
)
from saliency_vae.loadable import check_loadable

_CUSTOM = "saliency_vae.classifiers.custom_classifier"
_BUILT_IN = "saliency_vae.digit_classifier.cluttered_digits_classifier"
# Built from an explainer's file without being named on the command line: code of ours that runs
# no other code. An import path of somebody else's must come from the user.
_BUILDERS = frozenset(
    {
        _BUILT_IN,
        "saliency_vae.classifiers.torchvision_classifier",
        "saliency_vae.classifiers.timm_classifier",
    }
)


def explained_classifier(
    config: Mapping[str, Any], node: dict[str, Any] | None = None, *, force: bool = False
) -> FrozenClassifier:
    """Build the classifier of an explainer.

    Args:
        config: Of the explainer.
        node: Hydra node of the classifier; by default the one that the explainer recorded.
        force: Take the classifier even if the explainer was trained for another, or on images that
            were preprocessed otherwise.

    Raises:
        ValueError: If it is another classifier or preprocesses otherwise, or the record does not
            say how to build it.
    """
    expected = recorded_identity(config)
    try:
        classifier: FrozenClassifier = instantiate(node or _recorded(expected), _convert_="all")
    except InstantiationException as error:
        raise (error.__cause__ or error) from None  # the classifier's own words
    if not force:
        check_identity(classifier, expected)
        _check_preprocessing(classifier, config.get("preprocessing"))
    return classifier


def _check_preprocessing(classifier: FrozenClassifier, expected: dict[str, Any] | None) -> None:
    """Refuse images of another size or scale than the explainer was trained on."""
    found = json.loads(json.dumps(asdict(classifier.preprocessing)))  # as it was recorded
    if expected is not None and found != expected:
        raise ValueError(
            "Expected a classifier whose images are preprocessed as those that this explainer was "
            f"trained on, {expected}. Found {found}. force=true explains with it all the same."
        )


def _recorded(identity: dict[str, Any]) -> dict[str, Any]:
    """Hydra node that an explainer recorded for its classifier, if it may be built unasked."""
    builder: Any = identity.get("builder")
    target = str(builder.get("_target_") if isinstance(builder, dict) else builder)
    if target not in _BUILDERS:
        raise ValueError(
            f"Expected classifier=... on the command line, or explainer.ask(classifier) in Python, "
            f"for {describe(identity)}: an explainer's file does not choose what code is run. "
            f"Found in the file, for you to check and type: "
            f"{_as_typed(builder) if target == _CUSTOM else target}"
        )
    check_loadable(builder, _BUILDERS, "the classifier that the explainer recorded")
    path = str(builder.get("path"))
    if target == _BUILT_IN and not Path(path).is_file():  # it would be trained
        raise ValueError(
            f"Expected the built-in classifier that was explained at {path}. Found none. "
            "classifier=cluttered_digits classifier.path=FILE names another place, in Python "
            "explainer.ask(classifier)."
        )
    return dict(builder)


def _as_typed(builder: dict[str, Any]) -> str:
    """Settings of a command that build one's own classifier as it was built in training."""
    typed = ["classifier=custom"]
    for name, value in builder.items():
        if name != "_target_" and value is not None:
            text = json.dumps(value, separators=(",", ":")).replace('"', "")  # as Hydra writes it
            typed.append(shlex.quote(f"classifier.{name}={text}"))
    return " ".join(typed)
