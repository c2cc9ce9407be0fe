"""All commands under one name: ``saliency-vae COMMAND``, or ``python -m saliency_vae COMMAND``."""

import runpy
import sys
from importlib.metadata import version

from saliency_vae.runtime.text import did_you_mean, printable

COMMANDS = {
    "explain": "where a classifier looked, for images in files",
    "app": "the same in a page in the browser",
    "train": "train an explainer for a classifier",
    "evaluate": "compare explainers with other methods",
    "export": "write an explainer as a graph that runs without this package",
    "shard": "pack images in shards for training",
}


def usage() -> str:
    """List the commands, one per line."""
    lines = [f"  {name:10}{description}" for name, description in COMMANDS.items()]
    return "\n".join(
        [
            "Where an image classifier looked, and how sure that explanation is.",
            "",
            "usage: saliency-vae COMMAND [KEY=VALUE ...]",
            "",
            *lines,
            "",
            "saliency-vae COMMAND --help lists the settings of a command.",
        ]
    )


def main() -> None:
    """Run the command named by the first argument, with the remaining arguments.

    Raises:
        SystemExit: With a one-line message, if there is no such command.
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        sys.stdout.write(f"{usage()}\n")
    elif name == "--version":
        sys.stdout.write(f"{version('saliency-vae')}\n")
    elif name in COMMANDS:
        sys.argv = [sys.argv[0], *arguments]
        runpy.run_module(f"saliency_vae.{name}", run_name="__main__", alter_sys=True)
    else:
        found = printable(name)
        hint = did_you_mean(name, COMMANDS)
        raise SystemExit(
            f"error: Expected a command among {', '.join(COMMANDS)}. Found {found}.{hint}"
        )


if __name__ == "__main__":
    main()
