"""The images, models and outputs of a ``saliency_vae.explain`` command, from its settings."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch

from saliency_vae.classifiers import FrozenClassifier, Target, parameter_hash
from saliency_vae.cli.schemas import ExplainConfig
from saliency_vae.data import find_images
from saliency_vae.inference.image_files import name_of
from saliency_vae.inference.labels import Labels
from saliency_vae.inference.outputs import Outputs, is_panel
from saliency_vae.inference.predict import BatchExplainer, ExplainSettings
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.runtime.device import pick_device

_MAPS = ("store", "npz")


@dataclass(frozen=True)
class Job:
    """Images, explainer, classifier and outputs, as configured.

    Attributes:
        config: Settings.
        root: Directory that images are named relative to.
        files: Image files, sorted.
        explainer: Explainer.
        classifier: Classifier to explain.
        label: Finds the true class of an image.
    """

    config: ExplainConfig
    root: Path
    files: Sequence[Path]
    explainer: Explainer
    classifier: FrozenClassifier
    label: Labels

    @classmethod
    def of(cls, config: ExplainConfig) -> Self:
        """Find images, and load explainer and classifier.

        Raises:
            ValueError: If a setting is wrong.
        """
        if config.maps not in _MAPS:
            raise ValueError(f"Expected maps among {', '.join(_MAPS)}. Found {config.maps}.")
        _number_of_panels(config.panels)
        root, found = find_images(config.images)
        files = [file for file in found if not is_panel(file)]
        explainer = load_explainer(config.explainer)
        classifier = explainer.build_classifier(config.classifier, force=config.force)
        if config.target is not None:
            target = explainer.attach_classifier(classifier, force=True).target(config.target)
            _check_target(target, classifier)
        label = Labels.of(classifier, config.labels)
        return cls(config, root, files, explainer, classifier, label)

    def name(self, file: Path) -> str:
        """Name of an image."""
        return name_of(file, self.root)

    @cached_property
    def names(self) -> list[str]:
        """Names of all images."""
        return [self.name(file) for file in self.files]

    @cached_property
    def shown(self) -> frozenset[str]:
        """Names of the images that are shown, in the gallery or in a panel."""
        return frozenset(self.names) if self.config.gallery else self.outputs.panels

    @property
    def batches(self) -> list[Sequence[Path]]:
        """Files of each batch, whatever the partitions and whatever has been explained already."""
        size = self.config.batch_size
        return [self.files[start : start + size] for start in range(0, len(self.files), size)]

    @property
    def title(self) -> str:
        """Heading of the gallery."""
        return f"Explanations of {self.classifier.identity()}"

    @cached_property
    def outputs(self) -> Outputs:
        """Files to write."""
        config = self.config
        return Outputs(
            Path(config.output_dir),
            panels=frozenset(self.names[: _number_of_panels(config.panels)]),
            npz=config.maps == "npz",
            gallery=config.gallery,
        )

    @property
    def _explain_settings(self) -> ExplainSettings:
        return ExplainSettings(
            fraction=self.config.fraction,
            refine_steps=self.config.refine_steps,
            samples=self.config.samples,
            seed=self.config.seed,
            target=self.config.target,
            curve=self.config.gallery or self.config.maps == "npz",
        )

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything an explanation depends on, as plain values; models by their SHA-256."""
        explained = asdict(self._explain_settings)
        # The gallery itself says where an explanation was measured at fewer fractions.
        del explained["curve"]
        models = {
            "explainer": [self.explainer.config.to_plain(), parameter_hash(self.explainer.encoder)],
            "classifier": [asdict(self.classifier.identity())],
        }
        return {
            "images": str(self.root.resolve()),
            "preprocessing": json.dumps(asdict(self.classifier.preprocessing)),
            "categories": list(self.classifier.categories or ()),
            **{
                name: hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
                for name, values in models.items()
            },
            **explained,
        }

    def explainer_on(self, device: str) -> BatchExplainer:
        """Move the models to a device, to explain there."""
        place = pick_device(device)
        classifier = self.classifier.to(place)
        explainer = self.explainer.to(place).attach_classifier(classifier, force=True)
        baseline = explainer.baseline().to(place)
        return BatchExplainer(explainer, classifier, baseline, self._explain_settings)


def _check_target(target: Target | None, classifier: FrozenClassifier) -> None:
    """Refuse a class that does not exist, if only a forward pass tells the number of classes."""
    if not callable(target) or classifier.categories is not None:
        return
    height, width = classifier.preprocessing.crop_size or (224, 224)
    try:
        with torch.no_grad():
            logits = classifier(classifier.mean.new_zeros(1, 3, height, width))
    except (RuntimeError, ValueError, AssertionError):  # another size is needed: an image will tell
        return
    target(logits)


def _number_of_panels(setting: str) -> int | None:
    """Number of images that get a panel; None for all."""
    if setting == "all":
        return None
    if setting == "none":
        return 0
    if not setting.isdecimal():
        raise ValueError(f"Expected panels=all, none or a number. Found {setting}.")
    return int(setting)
