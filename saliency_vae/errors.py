"""Errors of other code, for ours to quote."""


def described(error: Exception) -> str:
    """Say in one line what an error is and says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
