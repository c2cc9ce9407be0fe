"""Images a second of the command ``saliency_vae.explain``: most of it is reading and writing files.

Photographs of 640x480 and an explainer of the digits' size, so that explaining costs little. What
is compared with is what was written before: a compressed .npz of each image, at its own size, and
its panel as PNG, in one process. Each measurement is a process of its own, as the command is.

python benchmarks/saving.py [--quick]
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from timing import Report, Seconds, Target, milliseconds, parser, ratio, seconds
from torch import nn

from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.inference import explain_images
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.outputs import Outputs
from saliency_vae.models import Explainer, save_explainer
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.runtime.device import pick_device
from saliency_vae.visualization import Explanation, draw_panel

SAVE = Outputs.save
WORKERS = 2
BEFORE, ALL, MAPS = "as before, 1 process", "all, 2 workers", "maps alone, 2 workers"


def write_pictures(root: Path, number: int, size: tuple[int, int]) -> None:
    """Write smooth random photographs with a little noise."""
    root.mkdir()
    generator = np.random.default_rng(0)
    for index in range(number):
        coarse = generator.integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        noisy = np.asarray(smooth) * 0.95 + generator.integers(0, 12, (size[1], size[0], 1))
        Image.fromarray(noisy.astype(np.uint8)).save(root / f"{index:04}.jpg", quality=90)


def write_explainer(directory: Path, side: int) -> Path:
    """Save an explainer for images of the digits' size, and the classifier that it records."""
    builder = {
        "path": str(directory / "digits.safetensors"),
        "image_size": side,
        "train_size": 64,
        "epochs": 1,
        "seed": 0,
    }
    identity = cluttered_digits_classifier(**builder).identity()  # type: ignore[arg-type]  # values of many types
    target = "saliency_vae.classifiers.digits.cluttered_digits_classifier"
    config = ExplainerConfig(
        name="benchmark",
        encoder={"_target_": "saliency_vae.models.encoders.UNet", "channels": [8, 24, 48, 64]},
        prior={"_target_": "saliency_vae.distributions.KroneckerNormal", "_partial_": True},
        posterior="mean_field",
        topk={"_target_": "saliency_vae.topk.SoftTopK", "fraction": [0.05, 0.3]},
        perturbation={"_target_": "saliency_vae.perturbations.Mean"},
        beta=0.1,
        confidence={
            "_target_": "saliency_vae.models.confidence.ConfidenceNetwork",
            "classes": 10,
        },
        classifier=replace(identity, builder={"_target_": target, **builder}),
        image_size=(side, side),
    )
    explainer = Explainer.from_config(config)
    head = explainer.get_parameter("encoder.head.weight")
    nn.init.normal_(head, std=0.5)  # maps vary, as those of a trained explainer do
    save_explainer(explainer, directory / "explainer")
    return directory / "explainer"


def save_as_before(
    self: Outputs, explanations: Sequence[Explanation], broken: Sequence[BrokenImage]
) -> list[BrokenImage]:
    """Write the files that earlier versions wrote, and today's files without panels."""
    for explanation in explanations:
        name = explanation.source.name
        np.savez_compressed(self.npz_file(name), **self.stored(explanation).restored())
        panel = draw_panel(explanation)
        panel.save(self.directory / f"{name}.png", "PNG", compress_level=1)
    return SAVE(replace(self, panels=frozenset()), explanations, broken)


def cpu_seconds() -> float:
    """CPU seconds used by this process and by its child processes that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def explain_here(settings: dict[str, Any], *, before: bool) -> None:
    """Explain files in this process, and print elapsed seconds and CPU seconds."""
    config, device = ExplainConfig(**settings), torch.device(settings["device"])
    with patch.object(Outputs, "save", save_as_before) if before else nullcontext():
        start = cpu_seconds()
        elapsed = seconds(partial(explain_images, config), device)
    print(json.dumps([elapsed, cpu_seconds() - start]))


def explain_in_process(settings: dict[str, Any], *, before: bool) -> list[float]:
    """Explain files in a separate process, whose threads wait as in the real command."""
    command = [sys.executable, __file__, "--explain", json.dumps(settings)]
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"} if settings.get("num_workers") else {}
    ended = subprocess.run(
        [*command, *(["--before"] if before else [])],
        env=os.environ | waiting,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    measured: list[float] = json.loads(ended.stdout.splitlines()[-1])
    return measured


def main() -> None:
    """Measure."""
    options = parser(__doc__)
    options.add_argument("--explain", type=json.loads, help=argparse.SUPPRESS)
    options.add_argument("--before", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.explain is not None:
        explain_here(given.explain, before=given.before)
        return
    report = Report("saving", "Explaining files", pick_device(given.device), given.quick)
    number, size, rounds = (5, (64, 48), 1) if given.quick else (480, (640, 480), 3)
    before = number // 5  # fewer images for the slowest case
    alone = {"panels": "none", "gallery": False}
    cases: dict[str, dict[str, Any]] = {
        BEFORE: {},
        "all": {},
        ALL: {"num_workers": WORKERS},
        "without panels": {"panels": "none"},
        "maps alone": alone,
        MAPS: {"num_workers": WORKERS, **alone},
        "maps alone, and an .npz for each": {"maps": "npz", **alone},
    }
    if given.quick:  # only those of the targets, because each starts a slow process
        cases = {name: case for name, case in cases.items() if name in (BEFORE, ALL, MAPS)}
    directories = map(str, itertools.count())
    times: dict[str, Seconds] = {name: [] for name in cases}
    cpu: dict[str, Seconds] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as root:
        write_pictures(Path(root, "images"), number, size)
        write_pictures(Path(root, "before"), before, size)
        explainer = str(write_explainer(Path(root), 32 if given.quick else 48))
        for _ in range(rounds):
            for name, case in cases.items():
                images, explained = ("before", before) if name == BEFORE else ("images", number)
                paths = {"images": f"{root}/{images}", "output_dir": f"{root}/{next(directories)}"}
                settings = {"explainer": explainer, "device": str(report.device), **paths, **case}
                elapsed, computed = explain_in_process(settings, before=name == BEFORE)
                times[name].append(elapsed / explained)
                cpu[name].append(computed / explained)
    slowest = times[BEFORE]
    shape = f"{size[0]}x{size[1]}"
    report.tables[f"{number} images of {shape} ({before} as before), with starting up"] = [
        {
            "": name,
            "ms an image": milliseconds(t),
            "best images/s": 1 / min(t),
            "times as fast": ratio(slowest, t),
            "CPU ms an image": 1000 * min(cpu[name]),
        }
        for name, t in times.items()
    ]
    report.targets += [
        Target("images/s with all, 2 workers, x as before", ratio(slowest, times[ALL]), 10),
        Target("images/s, maps alone, 2 workers", 1 / min(times[MAPS]), 150),
    ]
    report.save(given.output)


if __name__ == "__main__":
    main()
