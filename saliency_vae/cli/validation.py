"""The configuration: where it lies, what its top level holds, and a check before anything starts.

Hydra composes ``conf/``; a node with ``_target_`` names what is built from it. The check holds
every such node against the signature of its target, so that a mistyped key or a value of the
wrong type is one clear error, wherever it was written.
"""

import difflib
import inspect
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

_PACKAGE = Path(__file__).parents[1]
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}

Node = dict[str, Any]


def config_dir() -> str:
    """Directory of the configuration files, in a checkout or an installed wheel."""
    installed = _PACKAGE / "conf"
    return str(installed if installed.is_dir() else _PACKAGE.parent / "conf")


def resolve(config: DictConfig) -> Node:
    """Resolve a composed configuration to plain values and check every node of it.

    Raises:
        ValueError: If a value is missing, a key unknown or a type wrong.
    """
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = f" ({error.full_key})" if getattr(error, "full_key", None) else ""
        raise ValueError(str(error).splitlines()[0] + key) from None
    assert isinstance(resolved, dict)
    plain: Node = {str(key): value for key, value in resolved.items()}
    schema = OmegaConf.get_type(config)
    if is_dataclass(schema):
        _check_keys(plain, [setting.name for setting in fields(schema)])
    check_targets(plain)
    _check_numbers(plain)
    return plain


def _check_keys(config: Node, known: list[str]) -> None:
    """Refuse a top level with other keys than the schema's, as +KEY and ~KEY make it."""
    for key in config:
        if key not in known:
            raise ValueError(
                f"Expected settings among {', '.join(known)}. Found {key}.{_hint(key, known)}"
            )
    for key in known:
        if key not in config:
            raise ValueError(f"Expected {key} to be set. Found it taken away: ~{key}.")


def _check_numbers(value: Any, path: str = "") -> None:
    """Refuse infinity and NaN, which no setting may be, and seeds that NumPy does not take.

    What ``arguments`` of the user's own classifier are is theirs to say.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"Expected {path} to be a finite number. Found {value}.")
    is_seed = path.split(".")[-1] == "seed" and isinstance(value, int)
    if is_seed and not 0 <= value < 2**32:
        raise ValueError(f"Expected 0 <= {path} < 2**32. Found {value}.")
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check_numbers(item, f"{path}[{index}]")
    if isinstance(value, dict):
        for key, item in value.items():
            if key != "arguments":
                _check_numbers(item, f"{path}.{key}" if path else str(key))


def _hint(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def check_targets(node: Any, path: str = "") -> None:
    """Hold every node that has a ``_target_`` against the signature of its target.

    Args:
        node: Plain configuration.
        path: Where it lies, for messages.

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
        _check_arguments(node, path)


def _check_arguments(node: Node, path: str) -> None:
    try:
        target = get_object(node["_target_"])
    except Exception as error:
        raise ValueError(
            f"Expected {path}._target_ to be an import path. "
            f"Found {node['_target_']} ({str(error).splitlines()[0]})."
        ) from None
    parameters = _parameters(target)
    if not parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for key, value in node.items():
        if key in _HYDRA_KEYS:
            continue
        if key not in parameters:
            raise ValueError(
                f"Expected {path} to have keys among {', '.join(parameters)}. "
                f"Found {path}.{key}.{_hint(key, parameters)}"
            )
        _check_value(value, parameters[key].annotation, f"{path}.{key}")


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    """Parameters of a target, their annotations as types where that can be."""
    if not callable(target):
        raise ValueError(f"Expected a _target_ that can be called. Found {target}.")
    try:
        return inspect.signature(target, eval_str=True).parameters
    except NameError:  # of a type that is imported for type checkers alone
        return inspect.signature(target).parameters
    except ValueError:  # some builtin types have none
        return {}


def _check_value(value: Any, annotation: Any, path: str) -> None:
    if annotation is inspect.Parameter.empty or _holds_target(value):
        return
    adapter = _adapter(annotation)
    if adapter is None:
        return
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except PydanticUserError:  # its annotation names types that are not known here
        return
    except ValidationError as error:
        expected = "; or ".join(dict.fromkeys(detail["msg"] for detail in error.errors()))
        raise ValueError(f"Wrong value {path}={value!r}. {expected}.") from None


def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Validator of a type; None for a type that no plain value has, which the target judges."""
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # some types bring their own configuration
        pass
    try:
        return TypeAdapter(annotation)
    except (PydanticUserError, NameError):
        return None


def _holds_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_holds_target(item) for item in value.values())
    return isinstance(value, list) and any(_holds_target(item) for item in value)
