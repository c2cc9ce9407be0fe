"""Classifiers of Hugging Face's transformers, with their image processors."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from PIL import Image
from torch import Tensor, nn

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.imitated import imitation, normalisation
from saliency_vae.classifiers.targets import Output
from saliency_vae.data import Interpolation, Preprocessing
from saliency_vae.runtime.extras import importing
from saliency_vae.runtime.hub import hub_or_cache, why_not

_INTERPOLATIONS: dict[int, Interpolation] = {  # by Pillow's number
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}
_LEVIT = 256 / 224  # factor by which LeViT's processor enlarges the size in its settings


def huggingface_classifier(
    name: str, output: Output | None = None, revision: str | None = None
) -> FrozenClassifier:
    """Build an image classifier from the Hugging Face Hub or a directory, with its processor.

    No code of the repository is run. Without internet access, the hub's cache is used.

    Args:
        name: ``owner/name`` on the hub, or a directory to which ``save_pretrained`` wrote the model
            and the image processor.
        output: Kind of output, see :class:`FrozenClassifier`; None to take it from the model's
            configuration.
        revision: Branch, tag or commit on the hub; None for the newest.

    Raises:
        ValueError: If transformers is not installed, there is no such model, it is not trained to
            classify, or its preprocessing cannot be reproduced exactly.
    """
    with importing("transformers", extra="huggingface", wanted_by="classifier=huggingface"):
        transformers: Any = import_module("transformers")
    try:
        with hub_or_cache() as answers:
            processor = transformers.AutoImageProcessor.from_pretrained(name, revision=revision)
            network, loading = transformers.AutoModelForImageClassification.from_pretrained(
                name, revision=revision, output_loading_info=True
            )
    except Exception as error:  # transformers, the hub and its HTTP library share no error class
        raise ValueError(
            f"Expected classifier.name={name} to be a directory with an image classifier and its "
            "processor, or an image classifier on the Hugging Face Hub, downloaded before or with "
            f"a network to do so. Found none ({why_not(error, answers=answers)})."
        ) from None
    if loading["missing_keys"]:
        raise ValueError(
            f"Expected classifier.name={name} to be trained to classify. "
            f"Found no weights of {', '.join(sorted(loading['missing_keys']))}."
        )
    network = network.float()
    return wrap_transformers(network, processor, name=f"huggingface/{name}", output=output)


def wrap_transformers(
    model: nn.Module, processor: Any, *, name: str | None = None, output: Output | None = None
) -> FrozenClassifier:
    """Wrap a model of transformers, see :meth:`FrozenClassifier.from_transformers`."""
    config: Any = model.config

    def preprocessed(image: Image.Image) -> Tensor:
        values: Tensor = processor(images=[image], return_tensors="pt")["pixel_values"][0]
        return values

    mean, std = normalisation(preprocessed)
    crop = preprocessed(Image.new("RGB", (360, 360))).shape[-2:]
    found = imitation(preprocessed, _candidates(processor, (crop[0], crop[1])), mean, std)
    if found is None:
        raise ValueError(
            "Expected an image processor that resizes and crops the centre, which can be done "
            f"here exactly. Found {type(processor).__name__}, whose images differ. Preprocess the "
            "images with it yourself, and use FrozenClassifier(model, name=..., mean=..., std=...)."
        )
    if output is None:
        labels = getattr(config, "problem_type", None) == "multi_label_classification"
        output = "sigmoid" if labels else "softmax"
    return FrozenClassifier(
        model,
        name=name or str(config.name_or_path or type(model).__name__),
        weights=getattr(config, "_commit_hash", None),
        mean=mean,
        std=std,
        output=output,
        categories=[config.id2label[index] for index in range(config.num_labels)],
        preprocessing=found,
    )


def _candidates(processor: Any, crop: tuple[int, int]) -> Iterator[Preprocessing]:
    """Yield what the settings of a processor may mean, given the size of its output images."""
    interpolation = _INTERPOLATIONS.get(int(getattr(processor, "resample", None) or 0), "nearest")
    sizes: list[int | tuple[int, int] | None] = [None, crop]
    size = getattr(processor, "size", None) or {}
    if size.get("height"):
        sizes.append((size["height"], size["width"]))
    elif size.get("shortest_edge"):
        shortest = size["shortest_edge"]
        enlarged = shortest / (getattr(processor, "crop_pct", None) or 1)
        sizes += [shortest, int(enlarged), int(shortest * _LEVIT)]
    for resize in sizes:
        yield Preprocessing(resize_size=resize, crop_size=crop, interpolation=interpolation)
