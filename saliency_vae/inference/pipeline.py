"""Explain image files as configured: read, explain and write, batch by batch."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from saliency_vae.classifiers import FrozenClassifier, parameter_hash
from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.data import find_images
from saliency_vae.inference.image_files import BrokenImage, InputImages, name_of, same_size
from saliency_vae.inference.outputs import Outputs, is_panel
from saliency_vae.inference.predict import BatchExplainer, ExplainSettings
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.perturbations import Blur
from saliency_vae.runtime.device import loader_processes, pick_device
from saliency_vae.runtime.memory import suggesting
from saliency_vae.visualization import Explanation, InputImage, write_gallery

_NAMED = 20  # broken images in the summary; broken.txt names all


@dataclass(frozen=True)
class Summary:
    """What became of the images.

    Attributes:
        images: Number of images found.
        earlier: Number of images that an earlier run had explained.
        broken: Images that could not be explained, with the reason, one a line.
        broken_list: File that lists the broken images.
        refine_steps: Gradient steps on each explanation by itself.
        objective: Mean objective before and after refinement, nats per image; None without it.
        gallery: First page of the gallery; None if no image has been explained yet.
    """

    images: int
    earlier: int
    broken: Sequence[str]
    broken_list: Path
    refine_steps: int
    objective: Sequence[float] | None
    gallery: Path | None

    def __str__(self) -> str:
        """Write the summary as it is printed."""
        explained = self.images - self.earlier - len(self.broken)
        before = f", {self.earlier} had been explained before" if self.earlier else ""
        lines = [f"{explained} of {self.images} images explained{before}."]
        if self.objective is not None:
            start, end = self.objective
            lines.append(
                f"Refined in {self.refine_steps} steps: "
                f"objective {start:.4f} -> {end:.4f} nats per image."
            )
        if self.broken:
            number = len(self.broken)
            lines.append(f"{number} could not be explained (all in {self.broken_list}):")
            lines += [f"  {line}" for line in self.broken[:_NAMED]]
        if self.gallery is not None:
            lines.append(str(self.gallery))
        return "\n".join(lines)


def explain_images(config: ExplainConfig) -> Summary:
    """Explain image files, and write a panel and an .npz for each and a gallery of all.

    Raises:
        ValueError: If a setting is wrong, before anything is written.
    """
    torch.manual_seed(config.seed)  # for baseline images that are noise
    root, found = find_images(config.images)
    files = [file for file in found if not is_panel(file)]
    explainer = load_explainer(config.explainer)
    classifier = explainer.build_classifier(config.classifier, force=config.force)
    settings = ExplainSettings(
        fraction=config.fraction,
        refine_steps=config.refine_steps,
        samples=config.samples,
        seed=config.seed,
        target=config.target,
    )
    depends_on = {
        "images": str(root.resolve()),
        **_fingerprints(explainer, classifier),
        **asdict(settings),
    }
    title = f"Explanations of {classifier.identity()}"
    if config.target is not None:
        explainer.attach_classifier(classifier, force=True).target(config.target)
    device = pick_device(config.device)
    explain = BatchExplainer(
        explainer.to(device).attach_classifier(classifier.to(device), force=True),
        classifier,
        Blur() if explainer.is_universal else explainer.objective().perturbation.to(device),
        settings,
    )
    outputs = Outputs(Path(config.output_dir))
    names = (name_of(file, root) for file in files)
    outputs.claim(depends_on, names, overwrite=config.overwrite)

    todo = [file for file in files if not outputs.done(name_of(file, root))]
    images = InputImages(root, todo, classifier.preprocessing)
    broken, objectives = _explain_all(images, explain, outputs, config)
    entries = outputs.entries()
    return Summary(
        images=len(files),
        earlier=len(files) - len(todo),
        broken=outputs.list_broken(broken),
        broken_list=outputs.broken,
        refine_steps=config.refine_steps,
        objective=torch.stack(objectives).mean(0).tolist() if objectives else None,
        gallery=write_gallery(entries, outputs.directory, title=title) if entries else None,
    )


def _fingerprints(explainer: Explainer, classifier: FrozenClassifier) -> dict[str, str]:
    """Compute SHA-256 of what explainer and classifier are."""
    parts = {
        "explainer": [explainer.config.to_plain(), parameter_hash(explainer.encoder)],
        "classifier": [asdict(classifier.identity())],
    }
    return {
        name: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
        for name, values in parts.items()
    }


def _explain_all(
    images: InputImages, explain: BatchExplainer, outputs: Outputs, config: ExplainConfig
) -> tuple[list[BrokenImage], list[Tensor]]:
    """Explain and save images; memory holds two batches of them, however many there are.

    Returns:
        Broken images, and the objective before and after refinement of all others, (2,) each.
    """
    loader: Iterable[list[InputImage | BrokenImage]] = DataLoader(
        images,
        batch_size=config.batch_size,
        num_workers=loader_processes(config.num_workers),
        collate_fn=list,
    )
    broken: list[BrokenImage] = []
    objectives: list[Tensor] = []
    bar = tqdm(total=len(images), desc="Explaining", unit="image", disable=not len(images))
    with suggesting(f"batch_size < {config.batch_size}, or smaller images"), bar:
        for batch in loader:
            for result in _results(batch, explain, outputs):
                if isinstance(result, BrokenImage):
                    broken.append(result)
                elif result.objective is not None:
                    objectives.append(result.objective)
                bar.update()
    return broken, objectives


def _results(
    batch: Sequence[InputImage | BrokenImage], explain: BatchExplainer, outputs: Outputs
) -> Iterator[Explanation | BrokenImage]:
    """Explain and save the images of a batch: one result for each, whatever happens to others."""
    yield from (item for item in batch if isinstance(item, BrokenImage))
    for images in same_size(item for item in batch if isinstance(item, InputImage)):
        for result in explain(images):
            if isinstance(result, BrokenImage):
                yield result
            else:
                yield outputs.save(result) or result
