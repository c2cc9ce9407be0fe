"""What an evaluation needs: built, checked against each other, and tried on one image."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from saliency_vae.evaluation.images import Images, check_split, evaluation_images, with_boxes
from saliency_vae.evaluation.methods import Methods, build_methods, warm_up
from saliency_vae.evaluation.sanity import check_randomised
from saliency_vae.evaluation.scoring import Protocol
from saliency_vae.evaluation.uncertainty import independent_runs
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.runtime.device import pick_device


@dataclass(frozen=True)
class Setup:
    """What an evaluation needs.

    Attributes:
        protocol: How maps are scored.
        explainer: Explainer to evaluate; the classifier is attached to it.
        classifier: Classifier to explain.
        images: Images to explain.
        methods: Methods to compare, each of which has explained the first image.
        runs: Independent runs, which the uncertainty of pixels is judged by.
        randomised: Explainer of a randomised classifier, if there is one.
    """

    protocol: Protocol
    explainer: Explainer
    classifier: FrozenClassifier
    images: Images
    methods: Methods
    runs: Sequence[Method]
    randomised: Explainer | None


def prepare(config: Node) -> Setup:
    """Build what an evaluation needs, so that wrong settings end it before anything long starts.

    Raises:
        ValueError: If a setting is wrong.
    """
    if not config["data"]:
        raise ValueError("Expected data=GROUP, such as data=cluttered_digits. Found none.")
    protocol = Protocol(config["baseline_images"], config["steps"], config["tolerance"])
    torch.manual_seed(config["seed"])
    device = pick_device(config["device"])
    explainer = load_explainer(config["explainer"]).to(device)
    randomised = load_randomised(config, explainer, device)
    runs = independent_runs(
        explainer,
        number=config["reference_runs"],
        steps=config["reference_steps"],
        seed=config["seed"],
        ensemble=config["ensemble"],
    )
    methods = build_methods(config["methods"], config["baselines"], explainer)
    classifier = explainer.build_classifier(config["classifier"], force=config["force"])
    classifier = classifier.to(device)
    explainer.attach_classifier(classifier, force=True)
    images = load_images(config, explainer, classifier, device)
    one = images.first(1).as_batch()
    methods = warm_up(methods, one, classifier, strict=config["methods"] is not None)
    return Setup(protocol, explainer, classifier, images, methods, runs, randomised)


def load_randomised(config: Node, explainer: Explainer, device: torch.device) -> Explainer | None:
    """Load the explainer of a randomised classifier, if the settings name one.

    Raises:
        ValueError: If it explains the classifier of the evaluated explainer.
    """
    if config["randomised"] is None:
        return None
    randomised = load_explainer(config["randomised"]).to(device)
    if randomised.is_conditional:
        classifier = randomised.build_classifier(config["randomised_classifier"])
        randomised.attach_classifier(classifier.to(device), force=True)
    check_randomised(explainer, randomised)
    return randomised


def load_images(
    config: Node, explainer: Explainer, classifier: FrozenClassifier, device: torch.device
) -> Images:
    """Load the images to evaluate on, with the true masks that are known.

    Raises:
        ValueError: If there is no image, or one that the explainer was trained on.
    """
    check_split(config["data"], explainer.config.data)
    data: SaliencyDataModule = instantiate(config["data"], _convert_="all")
    dataset, left_out = evaluation_images(
        data,
        classifier.preprocessing,
        config["limit"],
        num_workers=config["num_workers"],
        seed=config["seed"],
        predict=partial(_probabilities, classifier, device),
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
        device=device,
        left_out=left_out,
    )


@torch.inference_mode()
def _probabilities(classifier: FrozenClassifier, device: torch.device, images: Tensor) -> Tensor:
    """Class probabilities of images (B, 3, H, W), on the CPU."""
    return classifier.probabilities(classifier(images.to(device))).cpu()
