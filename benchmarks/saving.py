"""Images a second of ``saliency_vae.explain``, most of which is reading and writing files.

Photographs of 640x480 and an explainer of the digits' size, so that explaining costs little. What
is compared with is what was written before: a compressed .npz of each image, at its own size, and
its panel as PNG, in one process.

python benchmarks/saving.py [--quick]
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image
from timing import Report, Seconds, Target, arguments, milliseconds, ratio, seconds
from torch import nn

from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.inference import explain_images
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.outputs import Outputs
from saliency_vae.models import Explainer, save_explainer
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.visualization import Explanation, draw_panel

SAVE = Outputs.save


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
    """Save an explainer of the digits' size, and its classifier, which it has recorded."""
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
    nn.init.normal_(head, std=0.5)  # maps that are not constant, as those of a trained explainer
    save_explainer(explainer, directory / "explainer")
    return directory / "explainer"


def save_as_before(
    self: Outputs, explanations: Sequence[Explanation], broken: Sequence[BrokenImage]
) -> list[BrokenImage]:
    """Write what was written before, and what is written now without panels."""
    for explanation in explanations:
        name = explanation.source.name
        np.savez_compressed(self.npz_file(name), **self.stored(explanation).restored())
        panel = draw_panel(explanation)
        panel.save(self.directory / f"{name}.png", "PNG", compress_level=1)
    return SAVE(replace(self, panels=frozenset()), explanations, broken)


def cpu_seconds() -> float:
    """Seconds that this process and those that it started and that have ended have computed."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    report = Report("saving", "Explaining files", options.device, options.quick)
    number, size, rounds = (5, (64, 48), 1) if options.quick else (480, (640, 480), 3)
    before = number // 5  # the slowest are fewer
    directories = map(str, itertools.count())
    with tempfile.TemporaryDirectory() as root:
        write_pictures(Path(root, "images"), number, size)
        write_pictures(Path(root, "before"), before, size)
        settings = ExplainConfig(
            explainer=str(write_explainer(Path(root), 32 if options.quick else 48)),
            images=f"{root}/images",
            device=str(options.device),
        )

        def explain(**changes: object) -> None:
            explain_images(replace(settings, output_dir=f"{root}/{next(directories)}", **changes))

        def explain_as_before() -> None:
            with patch.object(Outputs, "save", save_as_before):
                explain(images=f"{root}/before")

        workers = 2
        alone = {"panels": "none", "gallery": False}
        functions: dict[str, Callable[[], None]] = {
            "as before, 1 process": explain_as_before,
            "all": explain,
            f"all, {workers} workers": partial(explain, num_workers=workers),
            "without panels": partial(explain, panels="none"),
            "maps alone": partial(explain, **alone),
            f"maps alone, {workers} workers": partial(explain, num_workers=workers, **alone),
            "maps alone, and an .npz for each": partial(explain, maps="npz", **alone),
        }
        times: dict[str, Seconds] = {name: [] for name in functions}
        cpu: dict[str, Seconds] = {name: [] for name in functions}
        for _ in range(rounds):
            for name, function in functions.items():
                explained = before if function is explain_as_before else number
                start = cpu_seconds()
                times[name].append(seconds(function, options.device) / explained)
                cpu[name].append((cpu_seconds() - start) / explained)
    slowest = times["as before, 1 process"]
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
        Target(
            "images/s with all, 2 workers, x as before", ratio(slowest, times["all, 2 workers"]), 10
        ),
        Target("images/s, maps alone, 2 workers", 1 / min(times["maps alone, 2 workers"]), 150),
    ]
    report.save(options.output)


if __name__ == "__main__":
    main()
