"""Renamed settings: old names are refused in new commands, and translated in resumed runs.

A table maps the old name of a setting ``KEY``, or of an option ``GROUP=OPTION``, to the new one. A
user who types an old name gets one line that names the new one. A run that was recorded with old
names can still be resumed.
"""

import re
from typing import Any

RENAMED = {  # in version 0.1.0
    "ridge": "mean_penalty",
    "encoder.evidence": "encoder.prior_mean_scale",
    "encoder=informed_unet": "encoder=conditional_unet",
    "removal": "baseline_images",
}
_OVERRIDE = re.compile(r"(?P<prefix>[+~]*)(?P<key>[^=]*)(?P<value>.*)", re.DOTALL)


def refusal(name: str, found: str) -> str | None:
    """Message, in one line, that refuses an old name; None if the name is not an old one.

    Args:
        name: ``KEY`` or ``GROUP=OPTION``.
        found: What the user wrote.
    """
    if name not in RENAMED:
        return None
    new = RENAMED[name] if "=" in name else f"{RENAMED[name]}=VALUE"
    return f"Expected {new}, the new name of {name}. Found {found}."


def check_override(override: str) -> None:
    """Refuse an override that uses an old name, with or without +, ++ or ~ before it.

    Raises:
        ValueError: If it uses one.
    """
    _, key, value = _parts(override)
    options = value.removeprefix("=").split(",")  # several in a sweep
    for name in (key, *(f"{key}={option}" for option in options)):
        if message := refusal(name, override):
            raise ValueError(message)


def check_composed(config: dict[str, Any]) -> None:
    """Refuse a composed configuration in which a file uses the old name of a setting.

    Raises:
        ValueError: If one does.
    """
    for name in RENAMED:
        *parents, key = name.split(".")
        node: Any = config
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if isinstance(node, dict) and key in node:
            raise ValueError(refusal(name, f"{name}={node[key]}"))


def translated(override: str) -> str:
    """Translate an override of an earlier run to the current names.

    Example:
        >>> translated("+ridge=0.3"), translated("encoder=informed_unet"), translated("seed=1")
        ('+mean_penalty=0.3', 'encoder=conditional_unet', 'seed=1')
    """
    prefix, key, value = _parts(override)
    return prefix + RENAMED.get(key + value, RENAMED.get(key, key) + value)


def _parts(override: str) -> tuple[str, str, str]:
    """Split ``+KEY=VALUE`` into the prefix, the key, and the value with its equals sign."""
    match = _OVERRIDE.fullmatch(override)
    assert match is not None
    return match["prefix"], match["key"], match["value"]
