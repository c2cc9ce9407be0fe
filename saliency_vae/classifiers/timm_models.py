"""Classifiers of timm, with the preprocessing and the classes of their weights."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, get_args

from torch import nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.imitated import imitation
from saliency_vae.classifiers.targets import Output
from saliency_vae.data import Interpolation, Preprocessing
from saliency_vae.runtime.extras import importing
from saliency_vae.runtime.hub import hub_or_cache, why_not
from saliency_vae.runtime.text import did_you_mean


def timm_classifier(
    name: str, pretrained: bool = True, output: Output = "softmax"
) -> FrozenClassifier:
    """Build a timm model with the preprocessing and the classes of its weights.

    Args:
        name: Name of the model and its weights, such as ``resnet18.a1_in1k``; or
            ``hf-hub:owner/name``, or ``local-dir:DIR``.
        pretrained: Load the weights, from the hub's cache or from the hub; False for random
            weights.
        output: Kind of output, see :class:`FrozenClassifier`.

    Raises:
        ValueError: If timm is not installed, has no such model, or its weights are not available.
    """
    timm = _timm()
    if ":" not in name and not timm.is_model(name):
        raise ValueError(
            f"Expected classifier.name to be one of timm.list_models(). Found {name!r}."
            f"{did_you_mean(name, timm.list_models())}"
        )
    try:
        with hub_or_cache() as answers:
            network = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # the hub and its HTTP library share no error class
        raise ValueError(
            f"Expected classifier.name={name} to be one of timm.list_pretrained(), downloaded "
            f"before or with a network to do so. Found none ({why_not(error, answers=answers)}). "
            "Random weights: classifier.pretrained=false."
        ) from None
    return wrap_timm(
        network,
        name=f"timm/{name}",
        weights="pretrained" if pretrained else None,
        output=output,
    )


def wrap_timm(
    model: nn.Module,
    *,
    name: str | None = None,
    weights: str | None = None,
    output: Output = "softmax",
    categories: Sequence[str] | None = None,
) -> FrozenClassifier:
    """Wrap a model of timm, see :meth:`FrozenClassifier.from_timm`."""
    timm = _timm()
    config: dict[str, Any] = dict(getattr(model, "pretrained_cfg", None) or {})
    data = timm.data.resolve_data_config(config, model=model)
    return FrozenClassifier(
        model,
        name=name or f"timm/{config.get('architecture') or type(model).__name__}",
        weights=weights,
        mean=data["mean"],
        std=data["std"],
        output=output,
        categories=categories or _categories(model, config),
        preprocessing=_preprocessing(data),
    )


def _timm() -> Any:
    with importing("timm", extra="timm", wanted_by="classifier=timm"):
        return import_module("timm")


def _preprocessing(data: Mapping[str, Any]) -> Preprocessing:
    """Reproduce the preprocessing in a timm model's data settings exactly, or refuse it."""
    _, height, width = data["input_size"]
    enlarged = int(height / data["crop_pct"]), int(width / data["crop_pct"])
    known = data["interpolation"] in get_args(Interpolation)
    candidates = [
        Preprocessing(size, (height, width), data["interpolation"] if known else "bilinear")
        for size in (min(enlarged), enlarged)
    ]
    transform = import_module("timm.data").create_transform(**data, is_training=False)
    found = imitation(transform, candidates, data["mean"], data["std"])
    if found is None:
        raise ValueError(
            "Expected a timm model whose images are cropped from the centre of a square resizing, "
            f"or squashed, which can be done here exactly. Found crop_mode={data['crop_mode']}, "
            f"input_size={tuple(data['input_size'])}, interpolation={data['interpolation']}."
        )
    return found


def _categories(model: nn.Module, config: Mapping[str, Any]) -> list[str] | None:
    """Class names of the weights, or else of the ImageNet variant with as many classes."""
    if config.get("label_names"):
        return [str(name) for name in config["label_names"]]
    data = import_module("timm.data")
    subset = data.infer_imagenet_subset(model)
    return None if subset is None else list(data.ImageNetInfo(subset).label_descriptions())
