"""Explain images: a panel and an .npz for each, and a gallery of all.

python -m saliency_vae.explain explainer=DIR images=photo.jpg output_dir=OUT
python -m saliency_vae.explain explainer=DIR images=photos output_dir=OUT batch_size=64
python -m saliency_vae.explain explainer=DIR images='photos/*.jpg' output_dir=OUT refine_steps=100
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from saliency_vae.classifiers import parameter_hash
from saliency_vae.cli.command import command
from saliency_vae.cli.validation import Node
from saliency_vae.data import find_images
from saliency_vae.inference.image_files import Broken, View, Views, name_of, same_size
from saliency_vae.inference.outputs import Outputs, is_panel
from saliency_vae.inference.predict import Explanation, explain_batch
from saliency_vae.models import load_explainer
from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.runtime.device import pick_device
from saliency_vae.runtime.memory import is_out_of_memory, suggesting
from saliency_vae.runtime.text import printable
from saliency_vae.visualization import write_gallery

_NAMED = 20  # broken files listed on the terminal; broken.txt names all


@command("explain", paths=("explainer", "images", "output_dir"))
def explain(config: Node, run: Path) -> None:
    """Explain images as configured.

    Raises:
        ValueError: If a setting is wrong.
        SystemExit: With status 1, if an image could not be explained.
    """
    check(config)
    torch.manual_seed(config["seed"])  # of a baseline that is noise
    outputs = Outputs(Path(config["output_dir"]))
    root, found = find_images(config["images"])
    files = [file for file in found if not is_panel(file)]
    explainer = load_explainer(config["explainer"])
    perturbation = explainer.objective().perturbation
    classifier = explainer.build_classifier(config["classifier"], force=config["force"])
    identity = classifier.identity()
    settings = {
        "images": str(root.resolve()),
        "explainer": fingerprint(explainer.config.to_plain(), parameter_hash(explainer.encoder)),
        "classifier": fingerprint(asdict(identity)),
        **{name: config[name] for name in ("fraction", "refine_steps", "samples", "seed")},
    }
    device = pick_device(config["device"])
    classifier = classifier.to(device)
    claim(outputs, settings, (name_of(file, root) for file in files), config["overwrite"])

    todo = [file for file in files if not outputs.done(name_of(file, root))]
    loader: Iterable[list[View | Broken]] = DataLoader(
        Views(root, todo, classifier.preprocessing),
        batch_size=config["batch_size"],
        num_workers=config["num_workers"],
        collate_fn=list,
    )
    explain_views = partial(
        explain_batch,
        explainer=explainer.to(device).attach_classifier(classifier, force=True),
        classifier=classifier,
        perturbation=perturbation.to(device),
        fraction=config["fraction"],
        refine_steps=config["refine_steps"],
        samples=config["samples"],
        seed=config["seed"],
    )
    save = partial(outputs.save, preprocessing=classifier.preprocessing)
    broken: list[Broken] = []
    objectives: list[Tensor] = []
    smaller = f"batch_size < {config['batch_size']}, or smaller images"
    bar = tqdm(total=len(todo), desc="Explaining", unit="image", disable=not todo)
    with suggesting(smaller), bar:
        for views in loader:
            for result in explained(views, explain_views, save):
                if isinstance(result, Broken):
                    broken.append(result)
                elif result.objective is not None:
                    objectives.append(result.objective)
                bar.update()
    print(f"{len(todo) - len(broken)} of {len(files)} images explained{before(files, todo)}.")
    report_refinement(objectives, config["refine_steps"])
    report_broken(broken, outputs.directory / "broken.txt")
    entries = outputs.entries()
    if entries:
        print(write_gallery(entries, outputs.directory, title=f"What {identity} saw"))
    if broken:
        raise SystemExit(1)


def check(config: Node) -> None:
    """Refuse numbers out of range before anything is read.

    Raises:
        ValueError: If there is one.
    """
    if not 0 < config["fraction"] <= 1:
        raise ValueError(f"Expected 0 < fraction <= 1. Found {config['fraction']}.")
    for name, least in (("batch_size", 1), ("refine_steps", 0), ("samples", 0), ("num_workers", 0)):
        if config[name] < least:
            raise ValueError(f"Expected {name} >= {least}. Found {config[name]}.")


def claim(outputs: Outputs, settings: Node, names: Iterable[str], overwrite: bool) -> None:
    """Record how the directory's explanations are made, so that others are not mixed in.

    Args:
        outputs: Of the explanations.
        settings: That they depend on.
        names: Of the images to explain.
        overwrite: Forget that these images have been explained, and all that were explained
            with other settings.

    Raises:
        ValueError: If it holds explanations with other settings that are not to be overwritten.
    """
    path = outputs.gallery / "settings"
    earlier = json.loads(path.read_text()) if path.is_file() else settings
    differing = [key for key in settings if earlier.get(key) != settings[key]]
    if differing and not overwrite:
        raise ValueError(
            f"Expected output_dir={outputs.directory} to be new or made with the same "
            f"settings. Found another {', '.join(differing)}: "
            "overwrite=true, or another output_dir."
        )
    if differing:
        shutil.rmtree(outputs.gallery)
    if overwrite:
        for name in names:
            outputs.entry(name).unlink(missing_ok=True)
    write_whole(path, json.dumps(settings))


def explained(
    views: Sequence[View | Broken],
    explain_views: Callable[[list[View]], list[Explanation]],
    save: Callable[[Explanation], None],
) -> Iterator[Explanation | Broken]:
    """Explain and save images of any sizes: one result for each, whatever happens to others.

    Args:
        views: To explain, or broken already.
        explain_views: Explains images of one size.
        save: Keeps an explanation.

    Raises:
        RuntimeError: If there is too little memory.
    """
    yield from (view for view in views if isinstance(view, Broken))
    for batch in same_size(view for view in views if isinstance(view, View)):
        try:
            explanations = explain_views(batch)
        except (ValueError, RuntimeError) as error:  # such as an image too small for a network
            if is_out_of_memory(error):  # the next batch would not fit either
                raise
            yield from (Broken.by(view.name, error) for view in batch)
            continue
        for explanation in explanations:
            try:
                save(explanation)
            except (OSError, ValueError) as error:  # such as a name too long for a file's
                yield Broken.by(explanation.view.name, error)
            else:
                yield explanation


def before(files: Sequence[Path], todo: Sequence[Path]) -> str:
    """Say how many of the files have been explained in an earlier run."""
    number = len(files) - len(todo)
    return f", {number} had been explained before" if number else ""


def report_refinement(objectives: Sequence[Tensor], steps: int) -> None:
    """Print the mean objective (2,) before and after refinement."""
    if objectives:
        start, end = torch.stack(list(objectives)).mean(0).tolist()
        print(f"Refined in {steps} steps: objective {start:.4f} -> {end:.4f} nats per image.")


def report_broken(broken: Sequence[Broken], path: Path) -> None:
    """Print which files could not be explained, and keep the list in a file."""
    path.unlink(missing_ok=True)
    if broken:
        lines = [printable(f"{item.name}: {item.why}") for item in broken]
        path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"{len(broken)} could not be explained (all in {path}):")
        for line in lines[:_NAMED]:
            print(f"  {line}")


def fingerprint(*parts: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    explain()
