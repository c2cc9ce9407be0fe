"""The classifier that an explainer recorded, built again, and no other."""

import json
import shlex
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.data import Preprocessing
from saliency_vae.runtime.loadable import check_loadable

_CUSTOM = "saliency_vae.classifiers.builders.custom_classifier"
_BUILT_IN = "saliency_vae.classifiers.digits.cluttered_digits_classifier"
# What may be built from an explainer's file although the user did not name it: code of this
# package that runs no other code. Somebody else's import path must come from the user.
_BUILDERS = frozenset(
    {
        _BUILT_IN,
        "saliency_vae.classifiers.builders.torchvision_classifier",
        "saliency_vae.classifiers.builders.timm_classifier",
    }
)


def build_recorded(
    expected: ClassifierIdentity,
    preprocessing: Preprocessing | None,
    node: dict[str, Any] | None = None,
    *,
    force: bool = False,
) -> FrozenClassifier:
    """Build the classifier that an explainer explains.

    Args:
        expected: Identity that the explainer recorded.
        preprocessing: Preprocessing that the explainer recorded; None if it recorded none.
        node: Hydra node of the classifier; by default the one that the explainer recorded.
        force: Take the classifier even if the explainer was trained for another one, or on images
            that were preprocessed differently.

    Raises:
        ValueError: If it is another classifier or preprocesses differently, or the record does
            not say how to build it.
    """
    try:
        classifier: FrozenClassifier = instantiate(node or _node(expected), _convert_="all")
    except InstantiationException as error:
        raise (error.__cause__ or error) from None  # the classifier's own words
    if not force:
        classifier.identity().check(expected)
        _check_preprocessing(classifier.preprocessing, preprocessing)
    return classifier


def _check_preprocessing(found: Preprocessing, expected: Preprocessing | None) -> None:
    """Refuse images of another size or scale than those that the explainer was trained on."""
    if expected is not None and found != expected:
        raise ValueError(
            "Expected a classifier whose images are preprocessed as those that this explainer was "
            f"trained on, {expected}. Found {found}. force=true explains with it all the same."
        )


def _node(identity: ClassifierIdentity) -> dict[str, Any]:
    """Hydra node that an explainer recorded for its classifier, if it may be built unasked."""
    builder = identity.builder
    target = str(None if builder is None else builder.get("_target_"))
    if builder is None or target not in _BUILDERS:
        found = _as_typed(builder) if builder is not None and target == _CUSTOM else target
        raise ValueError(
            f"Expected classifier=... on the command line, or explainer.attach_classifier("
            f"classifier) in Python, for {identity}: an explainer's file does not choose what code "
            f"is run. Found in the file, for you to check and type: {found}"
        )
    check_loadable(builder, _BUILDERS, "the classifier that the explainer recorded")
    path = str(builder.get("path"))
    if target == _BUILT_IN and not Path(path).is_file():  # it would be trained
        raise ValueError(
            f"Expected the built-in classifier that was explained at {path}. Found none. "
            "classifier=cluttered_digits classifier.path=FILE names another place, in Python "
            "explainer.attach_classifier(classifier)."
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
