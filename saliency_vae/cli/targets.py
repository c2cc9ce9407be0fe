"""Checking the configuration's nodes with a ``_target_`` against the target's signature.

A mistyped key or a value of the wrong type thus gives one clear error, wherever it was written.
"""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from saliency_vae.runtime.import_path import import_object
from saliency_vae.runtime.text import did_you_mean

_HYDRA_KEYS: dict[str, type] = {
    "_target_": str,
    "_partial_": bool,
    "_convert_": str,
    "_recursive_": bool,
    "_args_": list,
}


def check_targets(node: Any, path: str = "") -> None:
    """Check every node that has a ``_target_`` against the signature of its target.

    Args:
        node: Plain configuration.
        path: Path of the node in the configuration, for messages.

    Raises:
        ValueError: If a key is unknown, a value of the wrong type, or a target not found.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            check_targets(item, f"{path}[{index}]")
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        check_targets(value, f"{path}.{key}" if path else str(key))
    if "_target_" in node:
        _check_node(node, path)


def _check_node(node: dict[str, Any], path: str) -> None:
    for key, kind in _HYDRA_KEYS.items():
        if key in node and not isinstance(node[key], kind):
            raise ValueError(
                f"Expected {path}.{key} to be of type {kind.__name__}. Found {node[key]!r}."
            )
    try:
        target = import_object(node["_target_"])
    except ValueError as error:
        raise ValueError(f"Expected {path}._target_ to be an import path. Found {error}.") from None
    parameters = _parameters(target)
    if not parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for key, value in node.items():
        if key in _HYDRA_KEYS:
            continue
        if key not in parameters:
            raise ValueError(
                f"Expected {path} to have keys among {', '.join(parameters)}. "
                f"Found {path}.{key}.{did_you_mean(key, parameters)}"
            )
        _check_value(value, parameters[key].annotation, f"{path}.{key}")


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    """Parameters of a target, with annotations resolved to types if possible."""
    if not callable(target):
        raise ValueError(f"Expected a _target_ that can be called. Found {target}.")
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:  # an annotation is imported only for type checkers
        return inspect.signature(target).parameters
    except ValueError:  # some builtin types have no signature
        return {}


def _check_value(value: Any, annotation: Any, path: str) -> None:
    if annotation is inspect.Parameter.empty or _holds_target(value):
        return
    adapter = _adapter(annotation)
    if adapter is None:
        return
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except PydanticUserError:  # the annotation names types that are not known here
        return
    except ValidationError as error:
        expected = "; or ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise ValueError(f"Wrong value {path}={value!r}. {expected}.") from None


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Validator of a type; None if pydantic has none, so that only the target checks values."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, SchemaError):  # some types bring their own configuration, or none
        pass
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, SchemaError, NameError):
        return None


def _holds_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_holds_target(item) for item in value.values())
    return isinstance(value, list) and any(_holds_target(item) for item in value)
