"""Compare an explainer with every common method, on the same images and classifier.

python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits
python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits methods=[ours,rise] limit=100
python -m saliency_vae.evaluate explainer=DIR data=imagenet annotations=BOXES tolerance=15
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from rich.console import Console

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.cli.validation import Node
from saliency_vae.data import ImageFiles
from saliency_vae.data.boxes import WithBoxes
from saliency_vae.data.datamodule import SaliencyDataModule
from saliency_vae.evaluation.images import Images, check_split, evaluation_images
from saliency_vae.evaluation.methods import build_methods, warm_up
from saliency_vae.evaluation.report.publish import publish
from saliency_vae.evaluation.report.terminal import in_lines, ranking_table
from saliency_vae.evaluation.report.wandb_tables import log_results
from saliency_vae.evaluation.results import Finding, Results
from saliency_vae.evaluation.robustness import add_robustness
from saliency_vae.evaluation.run_metadata import about
from saliency_vae.evaluation.sanity import add_own_mask, check_randomised, compare_with_randomised
from saliency_vae.evaluation.scoring import REMOVALS, Protocol, measure, other_removals
from saliency_vae.evaluation.uncertainty.corruption import add_corruption
from saliency_vae.evaluation.uncertainty.images import add_images, gather_images
from saliency_vae.evaluation.uncertainty.pixels import add_pixels, gather_evidence, independent_runs
from saliency_vae.evaluation.verdicts import OURS, findings
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.runtime.device import pick_device
from saliency_vae.runtime.loggers import wandb_logger

_LEAST = {
    "batch_size": 1,
    "num_workers": 0,
    "gallery": 0,
    "own_mask_images": 0,
    "reference_images": 0,
    "reference_runs": 0,
    "reference_steps": 1,
    "robustness_images": 0,
    "corruption_images": 0,
}
# Measured on so many images: none where it is 0.
_ON_IMAGES = {
    "own_mask_images": "Own mask",
    "robustness_images": "Infidelity and max-sensitivity",
    "corruption_images": "Confidence on corrupted images",
}


def compare(config: Node, run: Path) -> None:
    """Evaluate all methods, and publish what was found.

    Raises:
        ValueError: If a setting is wrong.
    """
    check(config)
    protocol = Protocol(config["removal"], config["steps"], config["tolerance"])
    torch.manual_seed(config["seed"])
    device = pick_device(config["device"])
    results = Results(seed=config["seed"], left_out=not_measured(config))
    explainer = load_explainer(config["explainer"]).to(device)
    randomised = None if config["randomised"] is None else load_explainer(config["randomised"])
    if randomised is not None and randomised.is_conditional:
        other = randomised.build_classifier(config["randomised_classifier"])
        randomised.attach_classifier(other.to(device), force=True)
    if randomised is not None:
        check_randomised(explainer, randomised)
    runs = independent_runs(
        explainer,
        number=config["reference_runs"],
        steps=config["reference_steps"],
        seed=config["seed"],
        ensemble=config["ensemble"],
    )
    methods = build_methods(config["methods"], config["baselines"], explainer, results.left_out)
    classifier = explainer.build_classifier(config["classifier"], force=config["force"])
    classifier = classifier.to(device)
    explainer.attach_classifier(classifier, force=True)
    images = images_of(config, explainer, classifier, device, results.left_out)

    one = images.first(1).as_batch()
    methods = warm_up(methods, one, classifier, results, strict=config["methods"] is not None)
    kept = max(config["gallery"], config["own_mask_images"])
    maps = measure(images, methods, classifier, protocol, results, keep=kept)
    results.about = about(config, explainer, classifier, images)
    replace(results).save(run)  # what follows takes long too; a copy: intervals are computed once
    if config["own_mask_images"] > 1 and len(images) > 1:
        seen = images.first(config["own_mask_images"]).as_batch()["image"]
        baseline = next(iter(protocol.baselines(seen, classifier).values()))
        own = {name: values[: len(seen)] for name, values in maps.items()}
        add_own_mask(results, own, seen, baseline, classifier)
    if config["robustness_images"]:
        few = images.first(config["robustness_images"]).as_batch()
        add_robustness(results, methods, few, classifier)
    results.findings = [*forced(explainer, classifier), *findings(results)]
    if OURS in methods:
        add_randomised(results, images, explainer, randomised)
        referenced = images.first(config["reference_images"])
        add_uncertainty(results, images, referenced, explainer, classifier, methods, runs)
        corrupted = images.first(config["corruption_images"])
        if len(corrupted):
            add_corruption(results, corrupted, explainer, classifier)
    shown = images.first(config["gallery"])
    drawn = publish(results, maps, shown, run)
    if config["wandb"]:
        logger = wandb_logger(str(run), name="evaluation")
        log_results(logger, results, drawn, run / "report.html")
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100
    console.print(ranking_table(results))
    for line in in_lines(results):
        print(line)
    print(run / "report.html")


def check(config: Node) -> None:
    """Refuse missing data and numbers out of range before anything is read.

    Raises:
        ValueError: If there is one.
    """
    if not config["data"]:
        raise ValueError("Expected data=GROUP, such as data=cluttered_digits. Found none.")
    for name, least in _LEAST.items():
        if config[name] < least:
            raise ValueError(f"Expected {name} >= {least}. Found {config[name]}.")


def not_measured(config: Node) -> list[str]:
    """Say what the settings leave out, and which of them would measure it."""
    lines = [
        f"{what}: asked for by {name}=N." for name, what in _ON_IMAGES.items() if not config[name]
    ]
    if others := other_removals(config["removal"]):
        every = f"removal=[{','.join(REMOVALS)}]"
        lines.append(f"Insertion and deletion over {', '.join(others)}: asked for by {every}.")
    return lines


def images_of(
    config: Node,
    explainer: Explainer,
    classifier: FrozenClassifier,
    device: torch.device,
    left_out: list[str],
) -> Images:
    """Images to evaluate on, with the true masks that are known.

    Raises:
        ValueError: If there are none, or some that the explainer was trained on.
    """
    check_split(config["data"], explainer.config.data)
    data: SaliencyDataModule = instantiate(config["data"], _convert_="all")
    dataset = evaluation_images(
        data,
        classifier.preprocessing,
        config["limit"],
        left_out=left_out,
        num_workers=config["num_workers"],
        seed=config["seed"],
    )
    order = f", drawn at random (seed {config['seed']})" if isinstance(dataset, ImageFiles) else ""
    if config["annotations"] is not None:
        dataset = WithBoxes(dataset, Path(config["annotations"]), classifier.preprocessing)
        if dataset.misfits:
            left_out.append(
                f"{len(dataset.misfits)} images, such as {dataset.misfits[0]}: they are read in "
                "another size than was annotated."
            )
        if dataset.unseen:
            left_out.append(
                f"{dataset.unseen} images: their boxes lie outside the classifier's view."
            )
    if "mask" not in dataset[0]:
        left_out.append("Pointing game, IoU, relevance: the data have no true masks.")
    choice = HydraConfig.get().runtime.choices["data"]
    return Images(
        dataset,
        name=f"{'test' if data.has_test_set else 'validation'} images of {choice}{order}",
        batch_size=config["batch_size"],
        num_workers=config["num_workers"],
        device=device,
    )


def forced(explainer: Explainer, classifier: FrozenClassifier) -> list[Finding]:
    """Warn of a classifier that the explainer was not trained for."""
    expected = explainer.classifier_identity
    if not expected.differences(classifier.identity()):
        return []
    return [Finding("note", f"Forced: the explainer was trained for {expected}.")]


def add_randomised(
    results: Results, images: Images, explainer: Explainer, other: Explainer | None
) -> None:
    """Add the sanity check against an explainer of a randomised classifier."""
    if other is None:
        results.left_out.append(
            "Sanity check with a randomised classifier: randomised=DIR names its explainer."
        )
        return
    other = other.to(images.device)
    results.findings.append(compare_with_randomised(images, explainer, other, seed=results.seed))


def add_uncertainty(
    results: Results,
    images: Images,
    few: Images,
    explainer: Explainer,
    classifier: FrozenClassifier,
    methods: Mapping[str, Method],
    runs: Sequence[Method],
) -> None:
    """Add what our uncertainty of each pixel, of few images, and of each image is worth."""
    vargrad = methods.get("vargrad")
    if runs and len(few):
        add_pixels(results, gather_evidence(few, explainer, classifier, runs, vargrad))
    else:
        results.left_out.append("Uncertainty of pixels: no independent runs were asked for.")
    failed = results.values["agreement_5"][OURS] == 0
    uncertainties = gather_images(images, explainer, classifier, vargrad)
    add_images(results, uncertainties, failed, results.values["insertion"][OURS])
