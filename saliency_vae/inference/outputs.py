"""TODO."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from saliency_vae.data import Preprocessing
from saliency_vae.inference.predict import Explanation
from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.visualization import Panel, display_size, draw_panel, entry

_PANEL = ".panel.png"


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
