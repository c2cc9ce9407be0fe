"""What all commands share: composing the configuration, checking it, and running."""

import functools
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from saliency_vae.cli.arguments import added, check_arguments, quoted
from saliency_vae.cli.errors import FULL, one_line_errors
from saliency_vae.cli.schemas import register_schemas
from saliency_vae.cli.sweep import run_job
from saliency_vae.cli.validation import Node, config_dir, resolve
from saliency_vae.runtime.text import same_command

_FULL_ERROR = "HYDRA_FULL_ERROR"

Function = Callable[[Node, Path], Any]


def command(name: str, *, paths: Collection[str] = ()) -> Callable[[Function], Callable[[], None]]:
    """Decorate a function of the resolved configuration and the run's directory as a command.

    Wrong settings and unusable files end the command with one line and status 1, or with a
    traceback if the environment variable HYDRA_FULL_ERROR is 1.

    Args:
        name: Name of ``conf/<name>.yaml`` and of the module ``saliency_vae.<name>``.
        paths: Settings that are paths, so that any file name is taken as typed.
    """
    register_schemas()

    def decorate(function: Function) -> Callable[[], None]:
        @functools.wraps(function)
        def main() -> None:
            wanted = os.environ.get(_FULL_ERROR)
            one_line = functools.partial(one_line_errors, name, traceback=wanted == "1")
            failed: list[int] = []  # jobs of a sweep

            @hydra.main(version_base="1.3", config_path=config_dir(), config_name=name)
            def compose_and_run(config: DictConfig) -> Any:
                _set_full_error(wanted)  # for the processes that a run starts
                with one_line():
                    if HydraConfig.get().mode == RunMode.MULTIRUN:
                        return run_job(f"saliency_vae.{name}", failed)
                    resolved = resolve(config)
                    with _naming_paths(resolved, paths):
                        return function(resolved, Path(HydraConfig.get().runtime.output_dir))

            sys.argv[1:] = [added(quoted(a, paths)) for a in sys.argv[1:]]
            _set_full_error("1")  # without it Hydra would print its errors and exit by itself
            try:
                with one_line():
                    check_arguments(sys.argv[1:])
                    compose_and_run()
                if failed:
                    raise SystemExit(f"error: jobs of the sweep failed: {failed}")
            finally:
                _set_full_error(wanted)

        return main

    return decorate


@contextmanager
def _naming_paths(config: Node, paths: Collection[str]) -> Iterator[None]:
    """Refuse empty paths, and name the setting behind a file that cannot be used."""
    for name in paths:
        if config[name] == "":
            raise ValueError(f"Expected {name}=PATH. Found nothing.")
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str):  # a network error, for instance
            raise
        file = Path(error.filename)
        values = {name: Path(config[name]) for name in paths if Path(config[name] or "").name}
        near = (
            name for name, value in values.items() if file == value.parent or value in file.parents
        )
        blamed = next((name for name, value in values.items() if value == file), next(near, None))
        if blamed is None:
            raise
        again = same_command(overwrite=bool(config.get("overwrite")))
        raise ValueError(
            f"Expected {blamed}={values[blamed]} to be a path that can be used. "
            f"Found {error.strerror}: {file}."
            + (f" Free some space: {again} goes on." if error.errno in FULL else "")
        ) from error


def _set_full_error(value: str | None) -> None:
    if value is None:
        os.environ.pop(_FULL_ERROR, None)
    else:
        os.environ[_FULL_ERROR] = value
