"""The training command, in a process of its own."""

import os
import sys
from pathlib import Path

from saliency_vae.cli.resumed_overrides import with_overrides_of_run
from saliency_vae.train import train


def run_train(directory: Path, *arguments: str) -> None:
    """Run the command as it is typed, in a directory."""
    os.chdir(directory)
    sys.argv = ["train.py", *with_overrides_of_run(list(arguments))]
    train()
