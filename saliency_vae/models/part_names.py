"""Stable names for the parts of a saved explainer, independent of the code's layout.

In a file, a part of an explainer is its name and its arguments, ``{"type": "unet", "channels": [8,
24]}``; in memory it is a Hydra node, whose ``_target_`` is an import path. One table maps names to
import paths; another maps the import paths in files from before version 0.1.0 to names.
"""

import re
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from saliency_vae.classifiers.recorded import BUILDERS

Node = dict[str, Any]

_PACKAGE = "saliency_vae"
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_"}
# For each part of an explainer: the names, with their import paths within this package.
_PATHS: dict[str, dict[str, str]] = {
    "encoder": {
        "paper": "models.encoders.PaperEncoder",
        "unet": "models.encoders.UNet",
        "conditional_unet": "models.conditional_encoder.ConditionalUNet",
        "universal_unet": "models.universal_encoder.UniversalUNet",
    },
    "prior": {
        "exponential": "distributions.learned_prior.ExponentialPrior",
        "kronecker": "distributions.KroneckerNormal",
        "soft_tv": "distributions.SoftTVNormal",
    },
    "topk": {"soft": "topk.SoftTopK"},
    "perturbation": {
        "blur": "perturbations.Blur",
        "mean": "perturbations.Mean",
        "noise": "perturbations.Noise",
        "other": "perturbations.Other",
        "constant": "perturbations.Constant",
        "mixture": "perturbations.Mixture",
    },
    "confidence": {"distilled": "models.confidence.ConfidenceNetwork"},
    "classifier": {name: path.removeprefix(f"{_PACKAGE}.") for name, path in BUILDERS.items()},
    "data": {
        "cluttered_digits": "data.cluttered_digits.ClutteredDigitsData",
        "image_folder": "data.image_folder.ImageFolderData",
        "imagenet": "data.imagenet.ImageNetData",
        "imagenet_streaming": "data.imagenet_streaming.ImageNetStreamingData",
        "cutouts": "data.cutouts.CutoutsData",
    },
    "optimizer": {},
}
# Called later with further arguments, so Hydra must make a partial of them.
_CALLED_LATER = {"kronecker", "soft_tv"}
# Parts whose names may be the user's own import paths. Data and optimizer are compared and shown,
# not built from a file; classifiers/recorded.py checks the classifier before it builds it.
_UNRESTRICTED = {"classifier", "data", "optimizer"}
# Import paths and arguments in files written before version 0.1.0.
_OLD_PATHS = {
    "encoders.PaperEncoder": "paper",
    "encoders.UNet": "unet",
    "informed_encoder.InformedUNet": "conditional_unet",
    "priors.ExponentialPrior": "exponential",
    "distributions.KroneckerNormal": "kronecker",
    "distributions.SoftTVNormal": "soft_tv",
    "topk.SoftTopK": "soft",
    "perturbations.Blur": "blur",
    "perturbations.Mean": "mean",
    "perturbations.Noise": "noise",
    "perturbations.Constant": "constant",
    "perturbations.Mixture": "mixture",
    "confidence.ConfidenceNetwork": "distilled",
    "classifiers.torchvision_classifier": "torchvision",
    "classifiers.timm_classifier": "timm",
    "classifiers.custom_classifier": "custom",
    "digit_classifier.cluttered_digits_classifier": "cluttered_digits",
    "data.cluttered_digits.ClutteredDigitsData": "cluttered_digits",
    "data.image_folder.ImageFolderData": "image_folder",
    "data.imagenet.ImageNetData": "imagenet",
    "data.imagenet_streaming.ImageNetStreamingData": "imagenet_streaming",
}
_OLD_ARGUMENTS = {"conditional_unet": {"evidence": "prior_mean_scale"}}


def to_named(part: str, value: Any) -> Any:
    """Convert the Hydra nodes in a part of an explainer into names and arguments, as in files.

    Args:
        part: Kind of part, such as ``encoder``.
        value: The part's node, or a value within it.
    """
    if isinstance(value, list | tuple):
        return [to_named(part, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: item for key, item in value.items() if key not in _HYDRA_KEYS}
    if part not in _UNRESTRICTED:  # a part may hold others, as a mixture of baselines does
        arguments = {key: to_named(part, item) for key, item in arguments.items()}
    if "_target_" not in value:
        return arguments
    return {"type": _name_of(part, str(value["_target_"])), **arguments}


def _name_of(part: str, target: str) -> str:
    """Stable name of an import path; the path itself if it is not in the table."""
    paths = {f"{_PACKAGE}.{path}": name for name, path in _PATHS[part].items()}
    if target in paths:
        return paths[target]
    if target.startswith(f"{_PACKAGE}."):  # perhaps the same class by another path
        for path, name in paths.items():
            if get_object(path) is get_object(target):
                return name
    return target


def to_node(part: str, value: Any, where: str) -> Any:
    """Convert names and arguments, read from a file, into Hydra nodes.

    Args:
        part: Kind of part, such as ``encoder``.
        value: The part as the file holds it, or a value within it.
        where: File and key, for error messages.

    Raises:
        ValueError: If a name is not in the table, as a file must not choose which code is run;
            or if there is a key or interpolation that Hydra would interpret.
    """
    if part in _UNRESTRICTED:
        return _unrestricted_node(part, value)
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"Expected {where} without interpolation. Found {value!r}.")
    if isinstance(value, list):
        return [to_node(part, item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    # Names of a classifier's modules, keys of an encoder's features, may begin with an underscore.
    reserved = [key for key in value if re.fullmatch(r"_[a-z]+_", key)]
    if reserved:
        raise ValueError(f"Expected {where} without a key of Hydra's. Found {reserved[0]}.")
    arguments = {key: to_node(part, item, where) for key, item in value.items() if key != "type"}
    if "type" not in value:
        return arguments
    name, paths = str(value["type"]), _PATHS[part]
    if name not in paths:
        raise ValueError(f"Expected {where} to be one of {', '.join(sorted(paths))}. Found {name}.")
    node = {"_target_": f"{_PACKAGE}.{paths[name]}", **arguments}
    return node | {"_partial_": True} if name in _CALLED_LATER else node


def has_own_parts(value: Any) -> bool:
    """Whether a stored perturbation contains one that does not come with the package."""
    if isinstance(value, list):
        return any(map(has_own_parts, value))
    if not isinstance(value, Mapping):
        return False
    return value.get("type", "blur") not in _PATHS["perturbation"] or any(
        map(has_own_parts, value.values())
    )


def _unrestricted_node(part: str, value: Any) -> Any:
    """Hydra node of a part with an unrestricted name; its arguments are unchanged."""
    if not isinstance(value, Mapping) or "type" not in value:
        return value
    name, paths = str(value["type"]), _PATHS[part]
    target = f"{_PACKAGE}.{paths[name]}" if name in paths else name
    return {"_target_": target, **{key: item for key, item in value.items() if key != "type"}}


def upgrade(value: Any) -> Any:
    """Convert a part from a file before version 0.1.0 to current names and arguments.

    An unknown import path is left unchanged, for :func:`to_node` to refuse.
    """
    if isinstance(value, list):
        return [upgrade(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    arguments = {key: upgrade(item) for key, item in value.items() if key not in _HYDRA_KEYS}
    if "_target_" not in value:
        return arguments
    target = str(value["_target_"])
    name = _OLD_PATHS.get(target.removeprefix(f"{_PACKAGE}."), target)
    renamed = _OLD_ARGUMENTS.get(name, {})
    return {"type": name, **{renamed.get(key, key): item for key, item in arguments.items()}}
