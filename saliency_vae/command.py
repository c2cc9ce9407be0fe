"""What every command does: compose its configuration, run, and turn an error into one line."""

import difflib
import errno
import functools
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import Container, DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from saliency_vae.configuration import Node, config_dir, register_schemas, resolve
from saliency_vae.out_of_memory import advice, is_out_of_memory
from saliency_vae.sweep import run_job

_FULL_ERROR = "HYDRA_FULL_ERROR"
_EXPECTED = (
    HydraException,
    OmegaConfBaseException,
    MisconfigurationException,
    ValueError,
    OSError,
    FloatingPointError,
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


Function = Callable[[Node, Path], Any]


def command(name: str, *, paths: Collection[str] = ()) -> Callable[[Function], Callable[[], None]]:
    """Make a command of a function of the resolved configuration and the run's directory.

    Wrong settings and unusable files end it with one line and status 1; with the environment
    variable HYDRA_FULL_ERROR=1 they end it with the traceback.

    Args:
        name: Of ``conf/<name>.yaml`` and of the module ``saliency_vae.<name>``.
        paths: Settings that are paths: any file name is taken as it is typed.
    """
    register_schemas()

    def decorate(function: Function) -> Callable[[], None]:
        asked = os.environ.get(_FULL_ERROR)

        @hydra.main(version_base="1.3", config_path=config_dir(), config_name=name)
        def compose_and_run(config: DictConfig) -> Any:
            _set_full_error(asked)  # for the processes that a run starts
            with _one_line_errors(name, unless=asked == "1"):
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    return run_job(f"saliency_vae.{name}")
                return function(resolve(config), Path(HydraConfig.get().runtime.output_dir))

        @functools.wraps(function)
        def main() -> None:
            sys.argv[1:] = [_quoted(argument, paths) for argument in sys.argv[1:]]
            _set_full_error("1")  # else Hydra would print and exit by itself
            try:
                with _one_line_errors(name, unless=asked == "1"):
                    compose_and_run()
            finally:
                _set_full_error(asked)

        return main

    return decorate


def _quoted(argument: str, paths: Collection[str]) -> str:
    """Quote a path whose characters mean something to Hydra, such as spaces and brackets."""
    key, equals, value = argument.partition("=")
    if key not in paths or not equals or not value or value[0] in "'\"":
        return argument
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


@contextmanager
def _one_line_errors(command: str, *, unless: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if unless:
            raise
        if is_out_of_memory(error):
            raise SystemExit(f"error: {advice(error, command)}") from None
        if not isinstance(error, _EXPECTED):
            raise
        raise SystemExit(f"error: {one_line(error)}") from None


def _set_full_error(value: str | None) -> None:
    if value is None:
        os.environ.pop(_FULL_ERROR, None)
    else:
        os.environ[_FULL_ERROR] = value


def one_line(error: Exception) -> str:
    """Say in one line what was wrong."""
    cause = error.__cause__
    if isinstance(error, InstantiationException) and cause is not None:
        error = cause if isinstance(cause, Exception) else error
    elif isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(cause)
    elif isinstance(error, OverrideParseException):
        return f"Expected KEY=VALUE as Hydra writes it. Found {error.override} ({cause})."
    if cause is not None and str(error).startswith("Error merging override"):
        error = ValueError(f"{error}: {cause}")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return _unusable(error)
    text = str(error).replace("\nTo append to your config use", " To add it use")
    return " ".join(text.split())


def _unusable(error: OSError) -> str:
    what = "Free some space" if error.errno in _FULL else "Name another place"
    return (
        f"Expected to be able to use {error.filename}. Found: {error.strerror}. {what}, "
        "for a run with hydra.run.dir=DIR."
    )


def _unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    parent = error.parent_node
    known = [str(key) for key in parent] if isinstance(parent, Container) else []
    near = difflib.get_close_matches(str(error.key), known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"Expected a setting among {', '.join(known)}. Found {error.full_key}.{hint}"
