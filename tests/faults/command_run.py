"""The training command, in a process of its own."""

import os
import signal
import sys
from pathlib import Path

import pytest

# The command imports these when it runs; imported here, the fork server loads them once for all.
import saliency_vae.training.finite_check
import saliency_vae.training.image_rate
import saliency_vae.training.panels
import saliency_vae.training.progress
import saliency_vae.training.run  # noqa: F401
from saliency_vae.cli.resumed_overrides import with_overrides_of_run
from saliency_vae.train import train
from tests.conftest import draw_plain_panels


def run_train(directory: Path, *arguments: str) -> None:
    """Run the command as it is typed, in a directory; it draws nothing.

    It heeds Ctrl-C, which it would ignore if the tests were started in the background.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    draw_plain_panels(pytest.MonkeyPatch())  # for the rest of this process
    os.chdir(directory)
    sys.argv = ["train.py", *with_overrides_of_run(list(arguments))]
    train()


def run_train_on_terminal(directory: Path, *arguments: str) -> None:
    """Run the command in a process group of its own, which a terminal sends Ctrl-C to."""
    os.setsid()
    run_train(directory, *arguments)
