"""Text for messages: one line each, printable anywhere."""

import difflib
from collections.abc import Iterable


def one_line(text: object) -> str:
    """Write the text of an object, such as an error, in one line."""
    return " ".join(str(text).split())


def described(error: Exception) -> str:
    """Describe an error in one line: its class and its message."""
    return f"{type(error).__name__}: {one_line(error)}".rstrip(".")


def printable(text: str) -> str:
    """Replace what is not printable, such as escape sequences in the name of a file."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def as_percent(share: float) -> str:
    """Write a probability in per cent, with < or > if it would round to 0 or 100 %.

    Args:
        share: Probability in [0, 1].

    Example:
        >>> as_percent(0.75), as_percent(0.0002), as_percent(0.9995)
        ('75.0 %', '< 0.1 %', '> 99.9 %')
    """
    if share < 0.0005:
        return "< 0.1 %"
    return "> 99.9 %" if share >= 0.9995 else f"{100 * share:.1f} %"


def same_command(*, overwrite: bool) -> str:
    """Describe the command that continues an interrupted one, so without overwrite=true."""
    return "the same command without overwrite=true" if overwrite else "the same command"


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
