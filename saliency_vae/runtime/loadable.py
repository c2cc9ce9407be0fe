"""A file that is read must not choose what code is run."""

from collections.abc import Collection
from typing import Any


def check_loadable(node: Any, allowed: Collection[str], where: str) -> None:
    """Refuse a node that would run other code than the allowed when Hydra builds it.

    Args:
        node: Plain values, read from a file.
        allowed: Import paths that a ``_target_`` in it, however deep, may hold.
        where: It was found, for messages.

    Raises:
        ValueError: If it names another target or holds an interpolation, which could make one.
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
            check_loadable(item, allowed, where)
