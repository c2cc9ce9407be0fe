"""Errors that a user can fix end a command with one line and status 1, others with a traceback."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import Container
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from saliency_vae.cli.renamed import refusal
from saliency_vae.runtime.memory import LESS, suggesting
from saliency_vae.runtime.text import did_you_mean, printable

_EXPECTED = (HydraException, OmegaConfBaseException, ValueError, OSError, FloatingPointError)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # disk full, quota exceeded, file too large


@contextmanager
def one_line_errors(command: str, *, traceback: bool = False) -> Iterator[None]:
    """End a command with one line if its settings or files are wrong, or the memory is full.

    Args:
        command: Name of the command.
        traceback: Whether to let all errors through, with their traceback.

    Raises:
        SystemExit: With the line to print, and status 1.
    """
    if traceback:
        yield
        return
    try:
        with suggesting(LESS.get(command, "a smaller batch_size")):
            yield
    except _expected() as error:
        raise SystemExit(f"error: {printable(one_line(error))}") from None


def _expected() -> tuple[type[Exception], ...]:
    """Errors that mean wrong settings or unusable files, including Lightning's if it is loaded."""
    lightning = sys.modules.get("lightning.fabric.utilities.exceptions")
    return _EXPECTED if lightning is None else (*_EXPECTED, lightning.MisconfigurationException)


def one_line(error: Exception) -> str:
    """Describe in one line what was wrong."""
    if message := _old_name(error):
        return message
    cause = error.__cause__
    if isinstance(error, InstantiationException) and cause is not None:
        error = cause if isinstance(cause, Exception) else error
    elif isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(cause)
    elif isinstance(error, MissingConfigException) and error.options:
        return _unknown_option(str(error.missing_cfg_file), error.options)
    elif isinstance(error, OverrideParseException):
        return f"Expected KEY=VALUE as Hydra writes it. Found {error.override}."
    if cause is not None and str(error).startswith("Error merging override"):
        error = ValueError(f"{error}: {str(cause).partition('full_key:')[0]}")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return _unusable(error)
    text = str(error).replace("\nTo append to your config use", " To add it use")
    _, of_worker, text_there = text.rpartition(f"\n{type(error).__name__}: ")
    if text.startswith("Caught ") and of_worker:  # a loader process sends its traceback
        text = text_there
    return " ".join(text.split())


def _old_name(error: Exception) -> str | None:
    """Message that refuses an old name in a configuration file; None if there is no old name."""
    if isinstance(error, MissingConfigException):
        name = str(error.missing_cfg_file).replace("/", "=")
    else:
        name = str(getattr(error.__cause__ or error.__context__, "full_key", ""))
    return refusal(name, name)


def _unusable(error: OSError) -> str:
    what = "Free some space" if error.errno in FULL else "Name another place"
    return (
        f"Expected to be able to use {error.filename}. Found: {error.strerror}. {what}, "
        "for a run with hydra.run.dir=DIR."
    )


def _unknown_option(asked: str, known: Sequence[str]) -> str:
    group, _, name = asked.rpartition("/")
    hint = did_you_mean(name, known)
    return f"Expected {group} to be one of {', '.join(known)}. Found {name}.{hint}"


def _unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    parent = error.parent_node
    known = [str(key) for key in parent] if isinstance(parent, Container) else []
    hint = did_you_mean(str(error.key), known)
    if not hint and "_target_" in known:
        hint = f" +{error.full_key}=VALUE adds it, where {parent['_target_']} takes it."
    return f"Expected a setting among {', '.join(known)}. Found {error.full_key}.{hint}"
