"""The configuration: its directory, and the checks of the composed values before a run starts.

Hydra composes ``conf/``. The top level is checked against the schema of the command, and each node
with a ``_target_`` against the signature of that target.
"""

import math
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from saliency_vae.cli.renamed import check_composed
from saliency_vae.cli.targets import check_targets
from saliency_vae.runtime.text import did_you_mean

_PACKAGE = Path(__file__).parents[1]

Node = dict[str, Any]  # a node of the configuration, resolved to plain values


def config_dir() -> str:
    """Directory of the configuration files, in a checkout or an installed wheel."""
    installed = _PACKAGE / "conf"
    return str(installed if installed.is_dir() else _PACKAGE.parent / "conf")


def resolve(config: DictConfig) -> Node:
    """Resolve a composed configuration to plain values and check every node of it.

    Raises:
        ValueError: If a value is missing or out of range, a key unknown, or a type wrong.
    """
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ValueError(f"Expected {error.full_key}=VALUE. Found nothing.") from None
    except OmegaConfBaseException as error:
        key = f" ({error.full_key})" if getattr(error, "full_key", None) else ""
        raise ValueError(str(error).splitlines()[0] + key) from None
    assert isinstance(resolved, dict)
    plain: Node = {str(key): value for key, value in resolved.items()}
    check_composed(plain)
    _check_numbers(plain)
    schema = OmegaConf.get_type(config)
    if is_dataclass(schema):
        _check_keys(plain, [setting.name for setting in fields(schema)])
        check_bounds(plain, schema)
    check_targets(plain)
    return plain


def _check_keys(config: Node, known: Iterable[str]) -> None:
    """Refuse top-level keys that the schema lacks (+KEY), and keys that were removed (~KEY)."""
    for key in config:
        if key not in known:
            raise ValueError(
                f"Expected settings among {', '.join(known)}. "
                f"Found {key}.{did_you_mean(key, known)}"
            )
    for key in known:
        if key not in config:
            raise ValueError(f"Expected {key} to be set. Found it taken away: ~{key}.")


def _check_numbers(value: Any, path: str = "") -> None:
    """Refuse infinity and NaN in all settings, and seeds that NumPy does not accept.

    The ``arguments`` of a user's own classifier may be any numbers.
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


def check_bounds(node: Node, schema: type, path: str = "") -> None:
    """Check the numbers of a node against the bounds in the annotations of a schema.

    Args:
        node: Plain values, of the right types.
        schema: Class whose annotations are ``Annotated[TYPE, Field(...)]`` where there are bounds.
        path: Path of the node in the configuration, for messages.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from saliency_vae.cli.schemas import TrainerBounds
        >>> check_bounds({"num_nodes": 0}, TrainerBounds, "trainer")
        Traceback (most recent call last):
        ValueError: Expected trainer.num_nodes >= 1. Found 0.
    """
    for key, hint in get_type_hints(schema, include_extras=True).items():
        value = node.get(key)
        if get_origin(hint) is not Annotated or not isinstance(value, int | float):
            continue
        try:
            TypeAdapter(hint).validate_python(value)
        except ValidationError:
            (bounds,) = hint.__metadata__
            expected = _inequality(f"{path}.{key}" if path else key, bounds)
            raise ValueError(f"Expected {expected}. Found {value}.") from None


def _inequality(name: str, bounds: FieldInfo) -> str:
    """Write bounds as one inequality, such as ``0 < fraction <= 1``."""
    signs = {"gt": ">", "ge": ">=", "le": "<="}
    limits = [
        (sign, getattr(bound, key))
        for bound in bounds.metadata
        for key, sign in signs.items()
        if hasattr(bound, key)
    ]
    sign, limit = limits[-1]
    text = f"{name} {sign} {limit}"
    if len(limits) > 1:
        (sign, limit), _ = limits
        text = f"{limit} {sign.replace('>', '<')} {text}"
    return text if bounds.description is None else f"{text}, {bounds.description}"
