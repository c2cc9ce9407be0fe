"""The command line as it is typed, before Hydra reads it."""

import re
from argparse import ArgumentError
from collections.abc import Collection, Sequence
from pathlib import Path

from hydra._internal.utils import get_args_parser

from saliency_vae.cli.renamed import check_override
from saliency_vae.cli.validation import config_dir


def quoted(argument: str, paths: Collection[str]) -> str:
    r"""Quote a path, since characters such as spaces and brackets mean something to Hydra.

    Args:
        argument: ``KEY=VALUE`` or a flag.
        paths: Settings that are paths.

    Example:
        >>> quoted("images=my photo.jpg", ["images"])
        "images='my photo.jpg'"
        >>> print(quoted(r"images=a\b.jpg", ["images"]))
        images='a\b.jpg'
        >>> print(quoted("images='tis.jpg", ["images"]))
        images='\'tis.jpg'
    """
    key, equals, value = argument.partition("=")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if key not in paths or not equals or not value or is_quoted:
        return argument
    # Hydra reads a backslash as itself, unless a quote comes after it.
    escaped = re.sub(
        r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), value
    )
    return f"{key}='{escaped}'"


def added(argument: str) -> str:
    """Add ++ to a setting of Lightning's Trainer, so that the user need not type Hydra's +.

    The configuration lists only some of these settings. Whether the Trainer accepts a setting is
    checked later.

    Args:
        argument: ``KEY=VALUE`` or a flag.

    Example:
        >>> added("trainer.max_steps=3"), added("+trainer.max_steps=3"), added("trainer=default")
        ('++trainer.max_steps=3', '++trainer.max_steps=3', 'trainer=default')
    """
    setting = argument.lstrip("+")
    return f"++{setting}" if setting.startswith("trainer.") and "=" in setting else argument


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that Hydra would answer with its usage or without naming the setting.

    Raises:
        ValueError: If there is an unknown flag, an old name of a setting, or a group without the
            name of an option.
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
        check_override(override)
        group, _, option = override.lstrip("+").partition("=")
        if not group:
            raise ValueError(f"Expected KEY=VALUE. Found {override}.")
        options = sorted(path.stem for path in Path(config_dir(), group).glob("*.yaml"))
        if options and re.fullmatch(r"null|true|false|[-+.\d]*", option):
            raise ValueError(f"Expected {group}={'|'.join(options)}. Found {override}.")
