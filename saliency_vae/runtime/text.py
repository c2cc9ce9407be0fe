"""Text for messages: one line each, printable anywhere."""

import difflib
from collections.abc import Iterable


def described(error: Exception) -> str:
    """Describe an error in one line: its class and its message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")


def printable(text: str) -> str:
    """Replace what is not printable, such as escape sequences in the name of a file."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that is nearest to an unknown one.

    Args:
        name: Unknown name.
        known: Names to choose from.

    Returns:
        A sentence with a space before it, or nothing if no known name is near.

    Example:
        >>> did_you_mean("corelation", ["correlation", "kernel"])
        ' Did you mean correlation?'
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""
