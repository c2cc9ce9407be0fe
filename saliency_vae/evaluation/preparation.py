"""Builds and checks everything an evaluation needs, and tries the methods on one image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.cli.validation import Node
from saliency_vae.data import ImageFiles
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.evaluation.baseline_images import seen_in_training
from saliency_vae.evaluation.explainers import load_explainers
from saliency_vae.evaluation.images import Images, check_split, evaluation_images, with_boxes
from saliency_vae.evaluation.methods import (
    ExplainerMethod,
    ImageOnlyControl,
    Methods,
    RefinedExplainer,
    build_methods,
    warm_up,
)
from saliency_vae.evaluation.protocol import Protocol, with_decision
from saliency_vae.evaluation.randomised import load_randomised
from saliency_vae.evaluation.roles import EXPLAINER, REFINED
from saliency_vae.evaluation.signal_controls import signal_controls
from saliency_vae.evaluation.uncertainty import independent_runs
from saliency_vae.models import Explainer
from saliency_vae.runtime.device import pick_device
from saliency_vae.runtime.memory import keep_freed_memory


@dataclass(frozen=True)
class Setup:
    """Everything that an evaluation needs.

    Attributes:
        protocol: How maps are scored.
        explainers: Explainers to evaluate by name, the main one first; the classifier is attached
            to each.
        classifier: Classifier to explain.
        data: Data module of the images, set up.
        images: Images to explain.
        methods: Methods to compare, warmed up on the first image.
        runs: Independent runs, the reference for the uncertainty of pixels.
        randomised: Explainer of a randomised classifier, if there is one.
    """

    protocol: Protocol
    explainers: Mapping[str, Explainer]
    classifier: FrozenClassifier
    data: SaliencyDataModule
    images: Images
    methods: Methods
    runs: Sequence[Method]
    randomised: Explainer | None

    @property
    def explainer(self) -> Explainer:
        """The main explainer."""
        return self.explainers[EXPLAINER]


def prepare(config: Node) -> Setup:
    """Build what an evaluation needs, so that wrong settings fail before anything slow starts.

    Raises:
        ValueError: If a setting is wrong.
    """
    if not config["data"]:
        raise ValueError("Expected data=GROUP, such as data=cluttered_digits. Found none.")
    names = ("baseline_images", "steps", "tolerance", "slow_images", "fraction")
    protocol = Protocol(*(config[name] for name in names))
    torch.manual_seed(config["seed"])
    device = pick_device(config["device"])
    if device.type == "cpu":
        keep_freed_memory()
    explainers = load_explainers(config["explainer"], device)
    explainer = explainers[EXPLAINER]
    protocol = protocol.with_unseen(seen_in_training(explainer.config.perturbation))
    randomised = load_randomised(config, explainer, device)
    runs = independent_runs(
        explainer,
        number=config["reference_runs"],
        steps=config["reference_steps"],
        seed=config["seed"],
        ensemble=config["ensemble"],
    )
    methods = build_methods(
        config["methods"],
        config["baselines"],
        evaluated(explainers, config["image_only"], config["refine_steps"]),
    )
    classifier = explainer.build_classifier(config["classifier"], force=config["force"])
    classifier = classifier.to(device)
    for name, evaluated_one in explainers.items():
        check_same_classifier(name, evaluated_one, classifier, force=config["force"])
        evaluated_one.attach_classifier(classifier, force=True)
    data: SaliencyDataModule = instantiate(config["data"], _convert_="all")
    images = load_images(config, data, explainer, classifier)
    first = images.first(1).as_batch()
    classifier.prefer_channels_last(first["image"])
    one = with_decision(first, classifier)
    methods = warm_up(
        replace(methods, slow_passes=config["slow_passes"]),
        one,
        classifier,
        strict=config["methods"] is not None,
        slow=config["slow_images"] != 0,
    )
    return Setup(protocol, explainers, classifier, data, images, methods, runs, randomised)


def evaluated(
    explainers: Mapping[str, Explainer], image_only: str | None, refine_steps: int
) -> dict[str, Method]:
    """Name to method: the explainers to evaluate, the refined one, and their controls."""
    methods: dict[str, Method] = {
        name: ExplainerMethod(explainer) for name, explainer in explainers.items()
    }
    if refine_steps:
        methods[REFINED] = RefinedExplainer(explainers[EXPLAINER], refine_steps)
    methods |= signal_controls(explainers[EXPLAINER])
    if image_only is not None:
        methods["image_only"] = ImageOnlyControl(image_only)
    return methods


def check_same_classifier(
    name: str, explainer: Explainer, classifier: FrozenClassifier, *, force: bool
) -> None:
    """Reject an explainer that was trained for another classifier than the one to explain.

    Raises:
        ValueError: If it was, and ``force`` is false.
    """
    known = explainer.is_universal or explainer.was_trained_for(classifier.identity())
    if not known and not force:
        raise ValueError(
            f"Expected all explainers to be trained for {classifier.identity()}. Found {name}, "
            f"trained for {explainer.classifier_identity}. force=true compares them all the same."
        )


def load_images(
    config: Node, data: SaliencyDataModule, explainer: Explainer, classifier: FrozenClassifier
) -> Images:
    """Load the images to evaluate on, with the true masks that are known.

    Raises:
        ValueError: If there is no image, or one that the explainer was trained on.
    """
    check_split(config["data"], explainer.config.data)
    dataset, left_out = evaluation_images(
        data,
        classifier.preprocessing,
        config["limit"],
        num_workers=config["num_workers"],
        seed=config["seed"],
        predict=partial(predict, classifier),
    )
    order = f", drawn at random (seed {config['seed']})" if isinstance(dataset, ImageFiles) else ""
    if config["annotations"] is not None:
        annotations = Path(config["annotations"])
        dataset, without_boxes = with_boxes(dataset, annotations, classifier.preprocessing)
        left_out += without_boxes
    if "mask" not in dataset[0]:
        left_out += ("Pointing game, IoU and relevance: the data have no true masks.",)
    group = HydraConfig.get().runtime.choices["data"]
    return Images(
        dataset,
        name=f"{'test' if data.has_test_set else 'validation'} images of {group}{order}",
        batch_size=config["batch_size"],
        num_workers=config["num_workers"],
        device=classifier.mean.device,
        left_out=left_out,
    )


@torch.no_grad()
def predict(classifier: FrozenClassifier, images: Tensor) -> Tensor:
    """Class probabilities, on the CPU, of images (B, 3, H, W) on any device: (B, classes)."""
    images = images.to(classifier.mean.device)
    classifier.prefer_channels_last(images)
    return classifier.probabilities(classifier(images)).cpu()
