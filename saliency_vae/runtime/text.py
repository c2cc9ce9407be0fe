"""Errors of other code, for ours to quote."""


def described(error: Exception) -> str:
    """Say in one line what an error is and says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")


def printable(text: str) -> str:
    """Text on one line that any font and terminal can take: a file's name need not be."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
