"""Seconds until commands have answered --help or done a first piece of work.

Compared with those of importing torch. The first work is a whole run that explains one image, and
a training up to the end of its first step.

python benchmarks/startup.py [--quick]
"""

import itertools
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from saving import write_explainer, write_pictures
from timing import Report, Target, arguments, interleaved, ratio, seconds

COMMANDS = ("train", "explain", "evaluate", "export", "app", "shard")
TORCH = "import torch"
HELP_AT_MOST, WORK_AT_MOST = 2.0, 3.0  # times as long as importing torch
# The command, in a process that ends after the first step.
ONE_STEP = """
import os, runpy
from lightning.pytorch import LightningModule

step = LightningModule.optimizer_step

def one_step(*given, **named):
    step(*given, **named)
    os._exit(0)

LightningModule.optimizer_step = one_step
runpy.run_module("saliency_vae.train", run_name="__main__", alter_sys=True)
raise SystemExit("Expected the training to take a step. Found none.")
"""


def run(*given: str) -> None:
    """Run Python in a separate process."""
    subprocess.run([sys.executable, *given], check=True, stdout=subprocess.DEVNULL)


def explain_one_image(root: Path, runs: "itertools.count[int]") -> None:
    """Explain an image with everything on, in a new directory."""
    settings = f"images={root}/images", f"explainer={root}/explainer", "device=cpu"
    run("-m", "saliency_vae.explain", *settings, f"output_dir={root}/{next(runs)}")


def train_one_step(root: Path, runs: "itertools.count[int]") -> None:
    """Train an explainer of the built-in classifier for one step."""
    classifier = [
        f"classifier.{name}" for name in (f"path={root}/digits.safetensors", "train_size=64")
    ]
    data = [f"data.{name}=64" for name in ("train_size", "val_size", "test_size", "batch_size")]
    directory = f"hydra.run.dir={root}/{next(runs)}"
    settings = "experiment=cluttered_digits", "classifier.epochs=1", *classifier, *data
    run("-c", ONE_STEP, *settings, "trainer.accelerator=cpu", "logger=csv", directory)


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    commands = COMMANDS[-1:] if options.quick else COMMANDS
    functions = {TORCH: partial(run, "-c", TORCH)}
    for command in commands:
        functions[f"{command} --help"] = partial(run, "-m", f"saliency_vae.{command}", "--help")
    at_most = {name: HELP_AT_MOST for name in functions if name != TORCH}
    with tempfile.TemporaryDirectory() as directory:
        root, runs = Path(directory), itertools.count()
        if not options.quick:
            write_explainer(root, 48)
            write_pictures(root / "images", 1, (640, 480))
            for name, work in (("explain", explain_one_image), ("train", train_one_step)):
                functions[f"{name}, first work"] = partial(work, root, runs)
                at_most[f"{name}, first work"] = WORK_AT_MOST
            times = interleaved(functions, options.device, rounds=7)
        else:
            times = {name: [seconds(functions[name], options.device)] for name in functions}
    report = Report("startup", "Start-up of the commands", options.device, options.quick)
    report.tables["Each in a process of its own"] = [
        {
            "": name,
            "seconds": statistics.median(times[name]),
            f"x {TORCH}": ratio(times[name], times[TORCH]),
        }
        for name in functions
    ]
    report.targets = [
        Target(f"{name} / {TORCH}", ratio(times[name], times[TORCH]), at_most=most)
        for name, most in at_most.items()
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
