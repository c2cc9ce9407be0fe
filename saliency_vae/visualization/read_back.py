"""Rebuilding an explanation from its stored values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from saliency_vae.perturbations import perturb
from saliency_vae.topk import top_pixels
from saliency_vae.visualization.explanation import (
    ClassifiedView,
    Explanation,
    InputImage,
    Sample,
)
from saliency_vae.visualization.measurement import Measurement


def read_back(values: Mapping[str, Any], source: InputImage, baseline: Tensor) -> Explanation:
    """Rebuild an explanation from the result of ``arrays``, without any network.

    Its objective is not rebuilt.

    Args:
        values: Its arrays and plain values; the target must be a class or the decision. If maps
            were stored as float16, some pixels near the threshold of the kept view may differ.
        source: The same image that was explained.
        baseline: The same baseline image, (3, h, w) in [0, 1].
    """
    return _Stored(values, source, baseline).explanation()


@dataclass(frozen=True)
class _Stored:
    values: Mapping[str, Any]
    source: InputImage
    baseline: Tensor

    def explanation(self) -> Explanation:
        mean, stddev, inclusion = (
            self._map(name) for name in ("mean", "stddev", "inclusion_probability")
        )
        return Explanation(
            source=self.source,
            original=self._classified(self._image, ""),
            kept=self._classified(self._view(mean), "kept_"),
            left_out=self._classified(self._view(mean, left_out=True), "left_out_"),
            baseline=self.baseline,
            maps=torch.stack([mean, stddev, inclusion]),
            measured=self._measured,
            curve=self._curve(),
            estimated_confidence=self.values.get("estimated_confidence"),
            out_of_depth=self.values.get("out_of_depth"),
            drawn=self._samples(),
            samples_stay=self.values.get("samples_stay"),
            target=self.values.get("target"),
        )

    @cached_property
    def _image(self) -> Tensor:
        return torch.from_numpy(self.source.pixels).float() / 255

    @cached_property
    def _measured(self) -> Measurement:
        return Measurement(**{field.name: self.values[field.name] for field in fields(Measurement)})

    def _map(self, name: str) -> Tensor:
        return torch.from_numpy(self.values[name]).float()

    def _view(self, scores: Tensor, *, left_out: bool = False) -> Tensor:
        mask = top_pixels(scores, self._measured.fraction)
        return perturb(self._image[None], (mask ^ left_out)[None], self.baseline[None])[0]

    def _classified(self, view: Tensor, of: str) -> ClassifiedView:
        probabilities, names = self.values[f"{of}probabilities"], self.values[f"{of}top_classes"]
        return _classified(view, torch.from_numpy(probabilities), names)

    def _samples(self) -> list[Sample]:
        if "samples" not in self.values:
            return []
        scores = self._map("samples")
        columns = (
            scores,
            torch.from_numpy(self.values["samples_kept_probabilities"]),
            self.values["samples_kept_top_classes"],
            self._measurements("samples", [self._measured.fraction] * len(scores)),
        )
        return [
            Sample(one, _classified(self._view(one), probabilities, names), measured)
            for one, probabilities, names, measured in zip(*columns, strict=True)
        ]

    def _curve(self) -> list[Measurement]:
        if "curve_decision_stays" not in self.values:  # of an earlier version
            return [self._measured]
        return self._measurements("curve", self.values["curve_fraction"].tolist())

    def _measurements(self, of: str, fractions: Sequence[float]) -> list[Measurement]:
        on_image = self._measured.on_image
        names = ("sufficiency", "necessity", "decision_stays", "decision_lost")
        columns = [self.values[f"{of}_{name}"].tolist() for name in names]
        return [
            Measurement(fraction, on_image, kept, on_image - fall, stays, lost)
            for fraction, kept, fall, stays, lost in zip(fractions, *columns, strict=True)
        ]


def _classified(view: Tensor, probabilities: Tensor, names: Sequence[str]) -> ClassifiedView:
    highest = probabilities.topk(len(names)).values.tolist()
    return ClassifiedView(view, probabilities, list(zip(names, highest, strict=True)))
