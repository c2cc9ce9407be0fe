"""Explaining photographs in Python, given in any form."""

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from saliency_vae.data import Preprocessing, as_picture
from saliency_vae.inference.image_files import BrokenImage, checked, same_size
from saliency_vae.inference.predict import BatchExplainer, ExplainSettings
from saliency_vae.models import Explainer
from saliency_vae.perturbations import needs_batch
from saliency_vae.runtime.autograd import evaluating
from saliency_vae.runtime.memory import suggesting
from saliency_vae.runtime.random import seeded
from saliency_vae.visualization import Explanation, InputImage, displayed

_Result = TypeVar("_Result", InputImage, Explanation)

_BATCH = 8  # photographs of one size that are explained at once


def explain_photographs(
    explainer: Explainer,
    photographs: object,
    target: object = None,
    *,
    fraction: float = 0.1,
    samples: int = 0,
    seed: int = 0,
    refine_steps: int = 0,
    baseline: nn.Module | None = None,
) -> Explanation | list[Explanation]:
    """Explain one or several photographs, see :meth:`saliency_vae.Explainer.explain`."""
    several = isinstance(photographs, list | tuple)
    given: Sequence[Any] = photographs if isinstance(photographs, list | tuple) else [photographs]
    settings = _checked_settings(
        ExplainSettings(
            fraction=fraction,
            refine_steps=refine_steps,
            samples=samples,
            seed=seed,
            target=target,
        )
    )
    explain = _batch_explainer(explainer, settings, baseline)
    preprocessing = explain.classifier.preprocessing
    names = [_name(photograph, i if several else None) for i, photograph in enumerate(given)]
    inputs = [_input(*pair, preprocessing) for pair in zip(names, given, strict=True)]
    with (
        evaluating(explainer),
        suggesting("fewer samples, or smaller photographs"),
        seeded(settings.seed, explain.classifier.mean.device),  # networks may be random
    ):
        found = _explain_all(inputs, explain)
    return found if several else found[0]


def _checked_settings(settings: ExplainSettings) -> ExplainSettings:
    """Check settings before any photograph is read, and convert numbers to plain Python ones."""
    fraction: object = settings.fraction
    is_number = isinstance(fraction, Real) and not isinstance(fraction, bool)
    if not (is_number and 0 < settings.fraction <= 1):
        raise ValueError(f"Expected fraction in (0, 1]. Found {fraction!r}.")
    seed = settings.seed
    if not _is_whole(seed):
        raise ValueError(f"Expected seed, a whole number. Found {seed!r}.")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"Expected seed from -2**63 to 2**63 - 1. Found {seed}.")
    for name in ("samples", "refine_steps"):
        number = getattr(settings, name)
        if not (_is_whole(number) and number >= 0):
            raise ValueError(f"Expected {name} >= 0, a whole number. Found {number!r}.")
    _check_target(settings.target)
    return replace(
        settings,
        fraction=float(settings.fraction),
        seed=int(seed),
        samples=int(settings.samples),
        refine_steps=int(settings.refine_steps),
    )


def _is_whole(number: object) -> bool:
    """Whether this is an integer, of Python or NumPy, and not a bool."""
    return isinstance(number, Integral) and not isinstance(number, bool)


def _check_target(target: object) -> None:
    """Refuse a target that cannot apply to all photographs."""
    if target is None or isinstance(target, str) or callable(target):
        return
    indices = np.asarray(target.cpu() if isinstance(target, Tensor) else target)
    if indices.size != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(
            "Expected one target for all photographs: the name or index of a class, or a function "
            f"of the logits (N, classes). Found {target!r}."
        )


def _batch_explainer(
    explainer: Explainer, settings: ExplainSettings, baseline: nn.Module | None
) -> BatchExplainer:
    """Make the explainer of batches, on the explainer's device."""
    if baseline is not None and not callable(baseline):
        raise ValueError(
            "Expected baseline to make baseline images of images, such as "
            f"saliency_vae.perturbations.Mean(). Found {baseline!r}."
        )
    if isinstance(baseline, nn.Module) and needs_batch(baseline):
        raise ValueError(
            "Expected baseline to make each baseline image of its own image alone. "
            f"Found {type(baseline).__name__} with another image of the batch."
        )
    if baseline is None:
        baseline = explainer.baseline()
    device = next(explainer.encoder.parameters()).device
    classifier = explainer.classifier.to(device)
    if settings.target is not None:
        explainer.target(settings.target)  # refuses an unknown name before anything is explained
    if isinstance(baseline, nn.Module):
        baseline = baseline.to(device)
    return BatchExplainer(explainer, classifier, baseline, settings)


def _explain_all(inputs: Sequence[InputImage], explain: BatchExplainer) -> list[Explanation]:
    """Explain photographs in batches of one size; the explanations keep their order."""
    found = {}
    for images in same_size(inputs):
        for start in range(0, len(images), _BATCH):
            for explanation in explain(images[start : start + _BATCH]):
                whole = _whole(explanation)
                found[id(whole.source)] = whole
    return [found[id(source)] for source in inputs]


def _whole(result: _Result | BrokenImage) -> _Result:
    """Return a result, or raise ValueError if it is a broken image."""
    if isinstance(result, BrokenImage):
        raise ValueError(f"{result.reason} ({result.name})")
    return result


def _input(name: str, photograph: object, preprocessing: Preprocessing) -> InputImage:
    """Preprocess a photograph for the classifier."""
    picture = as_picture(photograph, name)
    size = picture.height, picture.width
    pixels = preprocessing(picture).numpy()
    found = InputImage(name, pixels, displayed(picture), size, preprocessing, picture)
    return _whole(checked(found))


def _name(photograph: object, index: int | None) -> str:
    """Name a photograph by its file, or by its index among several."""
    if isinstance(photograph, str | os.PathLike):
        return os.fspath(photograph)
    return "image" if index is None else f"image {index}"
