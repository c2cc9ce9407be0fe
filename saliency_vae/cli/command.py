"""What every command does: compose its configuration, run, and turn an error into one line."""

import difflib
import errno
import functools
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import Container, DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from saliency_vae.cli.schemas import register_schemas
from saliency_vae.cli.sweep import run_job
from saliency_vae.cli.validation import Node, config_dir, resolve
from saliency_vae.runtime.memory import LESS, suggesting
from saliency_vae.runtime.text import printable

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
        @functools.wraps(function)
        def main() -> None:
            asked = os.environ.get(_FULL_ERROR)

            @hydra.main(version_base="1.3", config_path=config_dir(), config_name=name)
            def compose_and_run(config: DictConfig) -> Any:
                _set_full_error(asked)  # for the processes that a run starts
                with _one_line_errors(name, unless=asked == "1"):
                    if HydraConfig.get().mode == RunMode.MULTIRUN:
                        return run_job(f"saliency_vae.{name}")
                    resolved = resolve(config)
                    with _naming(resolved, paths):
                        return function(resolved, Path(HydraConfig.get().runtime.output_dir))

            sys.argv[1:] = [_quoted(argument, paths) for argument in sys.argv[1:]]
            _set_full_error("1")  # else Hydra would print and exit by itself
            try:
                with _one_line_errors(name, unless=asked == "1"):
                    check_arguments(sys.argv[1:])
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
def _naming(config: Node, paths: Collection[str]) -> Iterator[None]:
    """Refuse empty paths, and say which setting a file comes from that cannot be used."""
    for name in paths:
        if config[name] == "":
            raise ValueError(f"Expected {name}=PATH. Found nothing.")
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str):  # of the network, for instance
            raise
        file = Path(error.filename)
        for name in paths:
            value = Path(config[name] or "")
            if value.name and (file == value.parent or value in (file, *file.parents)):
                raise ValueError(
                    f"Expected {name}={value} to be a path that can be used. "
                    f"Found {error.strerror}: {file}."
                ) from error
        raise


def check_arguments(arguments: list[str]) -> None:
    """Refuse what Hydra would answer with its usage, or without naming the setting.

    Raises:
        ValueError: If there is an unknown flag, or a group that is not given an option's name.
    """
    parser = get_args_parser()
    parser.exit_on_error = False
    try:
        parsed, unknown = parser.parse_known_args(arguments)
    except ArgumentError as error:
        raise ValueError(f"Expected flags as --hydra-help lists them. Found {error}.") from None
    if unknown:
        raise ValueError(
            "Expected flags as --hydra-help lists them, all before the settings KEY=VALUE. "
            f"Found {' '.join(unknown)}."
        )
    for override in parsed.overrides:
        group, _, option = override.lstrip("+").partition("=")
        if not group:
            raise ValueError(f"Expected KEY=VALUE. Found {override}.")
        options = sorted(path.stem for path in Path(config_dir(), group).glob("*.yaml"))
        if options and re.fullmatch(r"null|true|false|[-+.\d]*", option):
            raise ValueError(f"Expected {group}={'|'.join(options)}. Found {override}.")


@contextmanager
def _one_line_errors(command: str, *, unless: bool) -> Iterator[None]:
    if unless:
        yield
        return
    try:
        with suggesting(LESS.get(command, "a smaller batch_size")):
            yield
    except _EXPECTED as error:
        raise SystemExit(f"error: {printable(one_line(error))}") from None


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
        return f"Expected KEY=VALUE as Hydra writes it. Found {error.override}."
    if cause is not None and str(error).startswith("Error merging override"):
        error = ValueError(f"{error}: {str(cause).partition('full_key:')[0]}")
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return _unusable(error)
    text = str(error).replace("\nTo append to your config use", " To add it use")
    _, of_worker, text_there = text.rpartition(f"\n{type(error).__name__}: ")
    if text.startswith("Caught ") and of_worker:  # a loader's process sends its whole traceback
        text = text_there
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
    if not near and "_target_" in known:
        hint = f" +{error.full_key}=VALUE adds it, where {parent['_target_']} takes it."
    return f"Expected a setting among {', '.join(known)}. Found {error.full_key}.{hint}"
