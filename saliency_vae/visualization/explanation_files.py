"""The files of one explanation: arrays for an ``.npz``, plain values for JSON, the panel."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.visualization.explanation import Explanation
from saliency_vae.visualization.measurement import Measurement

MAPS = ("mean", "stddev", "inclusion_probability", "samples")  # over the pixels, (..., h, w)
_MEASURED = ("sufficiency", "necessity", "decision_stays", "decision_lost")


def arrays(explanation: Explanation) -> dict[str, Any]:
    """Arrays and plain values of an explanation; maps have the size that the classifier sees.

    ``docs/explain.md`` lists them.
    """
    mean, stddev, inclusion = explanation.maps.numpy()
    original, kept, left_out = explanation.original, explanation.kept, explanation.left_out
    result = {
        "mean": mean,
        "stddev": stddev,
        "inclusion_probability": inclusion,
        **_measured(explanation.measured),
        **_columns("curve", explanation.curve, ("fraction", *_MEASURED)),
        "probabilities": original.probabilities.numpy(),
        "kept_probabilities": kept.probabilities.numpy(),
        "left_out_probabilities": left_out.probabilities.numpy(),
        "top_classes": [label for label, _ in original.prediction],
        "kept_top_classes": [label for label, _ in kept.prediction],
        "left_out_top_classes": [label for label, _ in left_out.prediction],
    }
    if explanation.target is not None:
        result["target"] = explanation.target
    if explanation.estimated_confidence is not None:
        result["estimated_confidence"] = explanation.estimated_confidence
    if explanation.out_of_depth is not None:
        result["out_of_depth"] = explanation.out_of_depth
    if explanation.drawn:
        result["samples"] = np.stack([sample.scores.numpy() for sample in explanation.drawn])
        result |= _columns("samples", [one.measured for one in explanation.drawn], _MEASURED)
        result["samples_overlap"] = np.array(explanation.overlaps)
        views = [sample.kept for sample in explanation.drawn]
        result["samples_kept_probabilities"] = np.stack([v.probabilities.numpy() for v in views])
        result["samples_kept_top_classes"] = [[label for label, _ in v.prediction] for v in views]
    if explanation.samples_stay is not None:
        result["samples_stay"] = explanation.samples_stay
    if explanation.objective is not None:
        result["objective"] = explanation.objective.numpy()
    return result


def restored(values: Mapping[str, Any], restore: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """Resample the maps among an explanation's values onto the whole original image.

    Args:
        values: Result of :func:`arrays`.
        restore: Function that restores maps, such as :meth:`InputImage.restore`.

    Returns:
        The values; maps are NaN where the image was cropped.
    """
    maps = {name: restore(torch.from_numpy(values[name])) for name in MAPS if name in values}
    return {**values, **{name: found.numpy() for name, found in maps.items()}}


def _measured(measured: Measurement) -> dict[str, Any]:
    """Values of a measurement by name; NaN for those that a score does not have."""
    plain = measured.to_plain()
    return {name: np.nan if value is None else value for name, value in plain.items()}


def _columns(of: str, measured: Sequence[Measurement], names: Sequence[str]) -> dict[str, Any]:
    """Values of several measurements, as one array for each name."""
    rows = [_measured(one) for one in measured]
    return {f"{of}_{name}": np.array([row[name] for row in rows]) for name in names}


def summary(explanation: Explanation) -> dict[str, Any]:
    """The numbers of an explanation without its maps, ready for JSON."""
    return {
        "name": explanation.name,
        "size": list(explanation.source.size),
        "prediction": [list(pair) for pair in explanation.prediction],
        "target": explanation.target,
        **explanation.measured.to_plain(),
        "curve": [measured.to_plain() for measured in explanation.curve],
        "samples": [
            {**sample.measured.to_plain(), "overlap": overlap}
            for sample, overlap in zip(explanation.drawn, explanation.overlaps, strict=True)
        ],
        "samples_stay": explanation.samples_stay,
        "kept_prediction": [list(pair) for pair in explanation.kept.prediction],
        "left_out_prediction": [list(pair) for pair in explanation.left_out.prediction],
        "estimated_confidence": explanation.estimated_confidence,
        "out_of_depth": explanation.out_of_depth,
    }


def save_explanation(explanation: Explanation, path: Path) -> None:
    """Write one file of an explanation, see :meth:`Explanation.save`."""
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise ValueError(
            f"Expected a file name that ends with {', '.join(_WRITERS)}. Found {path}."
        )
    with whole_file(path) as partial:
        write(explanation, partial)


def _write_panel(explanation: Explanation, path: Path) -> None:
    explanation.plot().save(path, format="PNG", compress_level=1)


def write_arrays(explanation: Explanation, path: Path, at: tuple[int, int] | None = None) -> None:
    """Write maps and numbers as ``.npz``.

    Args:
        explanation: Explanation of an image.
        path: File to write.
        at: Height and width of the maps; by default those of the original image.
    """
    restore = partial(explanation.source.restore, at=at)
    with path.open("wb") as file:  # numpy would add an extension to a file name
        np.savez_compressed(file, **restored(arrays(explanation), restore))


def _write_summary(explanation: Explanation, path: Path) -> None:
    text = json.dumps(summary(explanation), indent=2, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")


_WRITERS: dict[str, Callable[[Explanation, Path], None]] = {
    ".png": _write_panel,
    ".npz": write_arrays,
    ".json": _write_summary,
}
