"""Explaining image files in batches: views in; maps, panels and gallery entries out."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from saliency_vae.atomic_file import whole_file
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.images import load_rgb
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.distributions.posterior import INCLUSION_FRACTION
from saliency_vae.explainer import Explainer
from saliency_vae.gallery import entry
from saliency_vae.overlay import Pixels
from saliency_vae.panel import Panel, Prediction, display_size, displayed, draw_panel
from saliency_vae.perturbations import perturb
from saliency_vae.preprocessing import Preprocessing
from saliency_vae.topk import hard_topk, kept

_PANEL = ".panel.png"


@dataclass(frozen=True, eq=False)
class View:
    """An image file as the classifier sees it and as people do.

    Arrays rather than tensors: those of a worker process would each hold a file descriptor.

    Attributes:
        name: Path below the directory of the images.
        pixels: As the classifier sees it, (3, h, w).
        shown: For display, (3, H, W).
        size: Height and width of the file's image.
    """

    name: str
    pixels: Pixels
    shown: Pixels
    size: tuple[int, int]


@dataclass(frozen=True)
class Broken:
    """An image file that cannot be explained.

    Attributes:
        name: Path below the directory of the images.
        why: One line.
    """

    name: str
    why: str

    @classmethod
    def by(cls, name: str, error: Exception) -> "Broken":
        """Take what an error says, without the context that was added to its cause."""
        return cls(name, " ".join(str(error.__cause__ or error).split()))


class Views(Dataset[View | Broken]):
    """Image files, read when asked for; one that cannot be read is an item that says so."""

    def __init__(self, root: Path, files: Sequence[Path], preprocessing: Preprocessing) -> None:
        self.root = root
        self.files = files
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> View | Broken:
        name = name_of(self.files[index], self.root)
        try:
            image = load_rgb(self.files[index])
            pixels = self.preprocessing(image).numpy()
        except (OSError, ValueError, MemoryError) as error:
            return Broken.by(name, error)
        return View(name, pixels, displayed(image), (image.height, image.width))


def name_of(file: Path, root: Path) -> str:
    """Name of an image: its path below the directory of the images."""
    return file.relative_to(root).as_posix()


def same_size(views: Iterable[View]) -> Iterator[list[View]]:
    """Group views whose pixels have one shape, so that each group is a batch."""

    def shape(view: View) -> tuple[int, ...]:
        return view.pixels.shape

    for _, group in groupby(sorted(views, key=shape), key=shape):
        yield list(group)


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is known of one image; maps and images as the classifier sees it, on the CPU.

    Attributes:
        view: Of the file.
        image: In [0, 1], (3, h, w).
        baseline: The image without information, (3, h, w).
        kept_view: Top ``fraction`` of the pixels over the baseline, (3, h, w).
        maps: Posterior mean, stddev and inclusion probability at ``fraction``, (3, h, w).
        gallery_inclusion: Inclusion probability at the gallery's fraction, (h, w).
        fraction: Of the pixels kept.
        confidence: That 5 % of the pixels keep the decision, in [0, 1].
        probabilities: Of the image's classes, (classes,).
        kept_probabilities: Of the kept view's, (classes,).
        predictions: Most probable classes of the image.
        kept_predictions: Most probable classes of the kept view.
        objective: Before and after refinement, (2,), nats; None without refinement.
        samples: Maps drawn from the posterior, (n, h, w).
        sample_views: Their kept views, (n, 3, h, w).
        sample_predictions: Most probable classes of those views.
    """

    view: View
    image: Tensor
    baseline: Tensor
    kept_view: Tensor
    maps: Tensor
    gallery_inclusion: Tensor
    fraction: float
    confidence: float
    probabilities: Tensor
    kept_probabilities: Tensor
    predictions: Prediction
    kept_predictions: Prediction
    objective: Tensor | None
    samples: Tensor
    sample_views: Tensor
    sample_predictions: Sequence[Prediction]


def explain_batch(
    views: Sequence[View],
    explainer: Explainer,
    classifier: FrozenClassifier,
    perturbation: nn.Module,
    *,
    fraction: float,
    refine_steps: int = 0,
    samples: int = 0,
    seed: int = 0,
) -> list[Explanation]:
    """Explain images of one size.

    Args:
        views: At least one, all of one size.
        explainer: Trained, on the device of the classifier.
        classifier: To explain.
        perturbation: Baseline of the kept view.
        fraction: Of the pixels kept, in (0, 1].
        refine_steps: Gradient steps on each explanation by itself.
        samples: Maps to draw from each posterior: alternative explanations.
        seed: Of the refinement's noise and of the samples.
    """
    pixels = torch.stack([torch.from_numpy(view.pixels) for view in views])
    images = pixels.to(classifier.mean.device).float() / 255
    objective = None
    if refine_steps:
        refined = explainer.refine(images, classifier, steps=refine_steps, seed=seed)
        posterior = refined.posterior
        objective = torch.stack([refined.before, refined.after], dim=1).cpu()
    with torch.inference_mode():
        if not refine_steps:
            posterior = explainer(images)
        baseline = perturbation(images)
        kept_views = perturb(images, posterior.topk_mask(fraction), baseline)
        inclusion = posterior.inclusion_probability(fraction)
        maps = torch.stack([posterior.mean, posterior.stddev, inclusion], dim=1).cpu()
        gallery_inclusion = posterior.inclusion_probability(INCLUSION_FRACTION).cpu()
        confidence = explainer.judge(images, posterior).tolist()
        drawn = draw_samples(posterior, samples, seed)
        sample_views = [
            kept_samples(image, maps, base, fraction)
            for image, maps, base in zip(images, drawn, baseline, strict=True)
        ]
        sample_top = [classifier.top(classifier(views)) for views in sample_views if samples]
        logits, kept_logits = classifier(images), classifier(kept_views)
        probabilities = classifier.probabilities(logits).cpu()
        kept_probabilities = classifier.probabilities(kept_logits).cpu()
    top, kept_top = classifier.top(logits), classifier.top(kept_logits)
    images, baseline, kept_views = images.cpu(), baseline.cpu(), kept_views.cpu()
    return [
        Explanation(
            view=view,
            image=images[i],
            baseline=baseline[i],
            kept_view=kept_views[i],
            maps=maps[i],
            gallery_inclusion=gallery_inclusion[i],
            fraction=fraction,
            confidence=confidence[i],
            probabilities=probabilities[i],
            kept_probabilities=kept_probabilities[i],
            predictions=top[i],
            kept_predictions=kept_top[i],
            objective=None if objective is None else objective[i],
            samples=drawn[i].cpu(),
            sample_views=sample_views[i].cpu(),
            sample_predictions=sample_top[i] if samples else [],
        )
        for i, view in enumerate(views)
    ]


def draw_samples(posterior: SaliencyPosterior, number: int, seed: int) -> Tensor:
    """Draw maps for each image with the same noise, whatever else is in its batch: (B, n, h, w)."""
    device = posterior.mean.device
    return torch.stack(
        [
            alone.rsample((number,), generator=torch.Generator(device).manual_seed(seed))
            for alone in posterior.split()
        ]
    )


def kept_samples(image: Tensor, maps: Tensor, baseline: Tensor, fraction: float) -> Tensor:
    """Keep the top pixels of each of n maps (n, h, w) over the baseline: (n, 3, h, w)."""
    scores = maps.flatten(1)
    masks = hard_topk(scores, kept(fraction, scores.shape[1])).view_as(maps)
    return perturb(
        image.expand(len(maps), -1, -1, -1), masks, baseline.expand(len(maps), -1, -1, -1)
    )


@dataclass(frozen=True)
class Outputs:
    """The files of explained images, below one directory."""

    directory: Path

    @property
    def gallery(self) -> Path:
        """Directory of what the gallery is made of."""
        return self.directory / ".gallery"

    def npz(self, name: str) -> Path:
        """Maps and predictions."""
        return self.directory / f"{name}.npz"

    def panel(self, name: str) -> Path:
        """Picture."""
        return self.directory / f"{name}{_PANEL}"

    def entry(self, name: str) -> Path:
        """What the gallery shows; written last, so that it marks a finished image."""
        return self.gallery / f"{name}.json"

    def done(self, name: str) -> bool:
        """Whether an image has all of its files."""
        return all(path(name).is_file() for path in (self.entry, self.npz, self.panel))

    def entries(self) -> list[Path]:
        """Entries of all images that have been explained."""
        return [path for path in self.gallery.rglob("*.json") if path.is_file()]

    def save(self, explanation: Explanation, preprocessing: Preprocessing) -> None:
        """Write the files of an explanation.

        Args:
            explanation: Of one image.
            preprocessing: That the view was made with.
        """
        view = explanation.view
        for path in (self.npz(view.name), self.entry(view.name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.npz(view.name)) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays(explanation, preprocessing))
        with whole_file(self.panel(view.name)) as partial:
            drawn = draw_panel(panel(explanation, preprocessing))
            drawn.save(partial, format="PNG", compress_level=1)
        entry(
            view.name,
            explanation.image,
            baseline=explanation.baseline,
            mean=explanation.maps[0],
            inclusion=explanation.gallery_inclusion,
            confidence=explanation.confidence,
            predictions=explanation.predictions,
            panel=f"{view.name}{_PANEL}",
        ).save(self.entry(view.name))


def is_panel(file: Path) -> bool:
    """Whether a file is a panel of ours, beside its .npz, rather than an image to explain."""
    name = file.name.removesuffix(_PANEL)
    return name != file.name and file.with_name(f"{name}.npz").is_file()


def arrays(explanation: Explanation, preprocessing: Preprocessing) -> dict[str, Any]:
    """Arrays of an explanation's .npz, the maps over the whole image at its own resolution."""
    mean, stddev, inclusion = preprocessing.restore(explanation.maps, explanation.view.size)
    result = {
        "mean": mean.numpy(),
        "stddev": stddev.numpy(),
        "inclusion_probability": inclusion.nan_to_num(0).numpy(),  # what is cropped is never kept
        "fraction": explanation.fraction,
        "confidence": explanation.confidence,
        "probabilities": explanation.probabilities.numpy(),
        "kept_probabilities": explanation.kept_probabilities.numpy(),
        "top_classes": [label for label, _ in explanation.predictions],
        "kept_top_classes": [label for label, _ in explanation.kept_predictions],
    }
    if len(explanation.samples):
        restored = preprocessing.restore(explanation.samples, explanation.view.size)
        result["samples"] = restored.numpy()
    if explanation.objective is not None:
        result["objective"] = explanation.objective.numpy()
    return result


def panel(explanation: Explanation, preprocessing: Preprocessing) -> Panel:
    """Panel of an explanation, the maps at the size that it shows."""
    size = explanation.view.size
    mean, stddev, inclusion = preprocessing.restore(explanation.maps, size, display_size(size))
    return Panel(
        name=explanation.view.name,
        image=torch.from_numpy(explanation.view.shown),
        mean=mean,
        stddev=stddev,
        inclusion=inclusion,
        kept_view=explanation.kept_view,
        fraction=explanation.fraction,
        confidence=explanation.confidence,
        predictions=explanation.predictions,
        kept_predictions=explanation.kept_predictions,
        samples=list(zip(explanation.sample_views, explanation.sample_predictions, strict=True)),
    )
