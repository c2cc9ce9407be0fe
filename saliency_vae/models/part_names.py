"""Stable names of what a saved explainer holds, so that files do not depend on the code's layout.

In a file a part of an explainer is its name and its arguments, ``{"type": "unet", "channels": [8,
24]}``; in memory it is a Hydra node, whose ``_target_`` is an import path. One table leads from
names to import paths; another from the import paths in files written before version 0.1.0.
"""

import re
from collections.abc import Mapping
from typing import Any

from hydra.utils import get_object

from saliency_vae.classifiers.recorded import BUILDERS

Node = dict[str, Any]

_PACKAGE = "saliency_vae"
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_"}
# By the part of an explainer, the import path of each name.
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
    """Turn the Hydra nodes in a part of an explainer into names and arguments, as files hold them.

    Args:
        part: Which part it is, such as ``encoder``.
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
    """Stable name of an import path; of what is not in the table, the path itself."""
    paths = {f"{_PACKAGE}.{path}": name for name, path in _PATHS[part].items()}
    if target in paths:
        return paths[target]
    if target.startswith(f"{_PACKAGE}."):  # perhaps the same class by another path
        for path, name in paths.items():
            if get_object(path) is get_object(target):
                return name
    return target


def to_node(part: str, value: Any, where: str) -> Any:
    """Turn names and arguments, read from a file, into Hydra nodes.

    Args:
        part: Which part it is, such as ``encoder``.
        value: The part as the file holds it, or a value within it.
        where: File and key, for messages.

    Raises:
        ValueError: If it names what is not in the table, so that a file cannot choose what code is
            run; or holds a key or an interpolation that means something to Hydra.
    """
    if part in _UNRESTRICTED:
        return _unrestricted_node(part, value)
    if isinstance(value, str) and "${" in value:
        raise ValueError(f"Expected {where} without interpolation. Found {value!r}.")
    if isinstance(value, list):
        return [to_node(part, item, where) for item in value]
    if not isinstance(value, Mapping):
        return value
    # A classifier's modules, which an encoder may name, may begin with an underscore too.
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
    """Whether a perturbation as a file holds it names one that does not come with the package."""
    if isinstance(value, list):
        return any(map(has_own_parts, value))
    if not isinstance(value, Mapping):
        return False
    return value.get("type", "blur") not in _PATHS["perturbation"] or any(
        map(has_own_parts, value.values())
    )


def _unrestricted_node(part: str, value: Any) -> Any:
    """Hydra node of a part that may have any name; its arguments stay as they are."""
    if not isinstance(value, Mapping) or "type" not in value:
        return value
    name, paths = str(value["type"]), _PATHS[part]
    target = f"{_PACKAGE}.{paths[name]}" if name in paths else name
    return {"_target_": target, **{key: item for key, item in value.items() if key != "type"}}


def upgrade(value: Any) -> Any:
    """Turn a part as files before version 0.1.0 hold it into names and arguments of today.

    An import path that no such file can hold is left as it is, for :func:`to_node` to refuse.
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
