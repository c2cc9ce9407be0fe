"""Compare an explainer with every common method, on the same images and classifier.

python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits
python -m saliency_vae.evaluate explainer=DIR data=cluttered_digits methods=[ours,rise] limit=100
python -m saliency_vae.evaluate explainer=DIR data=imagenet annotations=BOXES tolerance=15
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from rich.console import Console
from torch import Tensor
from torch.utils.data import Dataset

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier, describe
from saliency_vae.command import command
from saliency_vae.configuration import Node
from saliency_vae.contenders import Ours, contenders, try_out
from saliency_vae.data.datamodule import Batch, SaliencyDataModule
from saliency_vae.device import pick_device
from saliency_vae.evaluation import Protocol, measure
from saliency_vae.evaluation_figures import figures, gallery_figure
from saliency_vae.explained_classifier import explained_classifier
from saliency_vae.explainer import Explainer, load_explainer
from saliency_vae.findings import OURS, findings
from saliency_vae.held_out import check_split, first, held_out, load
from saliency_vae.loggers import wandb_logger
from saliency_vae.metrics.boxes import WithBoxes
from saliency_vae.provenance import command_line, hardware, now, recipe, versions
from saliency_vae.ranking_table import ranking_table
from saliency_vae.report import gallery_rows, save_figures, write_report
from saliency_vae.results import Finding, Results
from saliency_vae.robustness import add_robustness
from saliency_vae.sanity_checks import add_own_mask, compare_with_randomised, same_classifier
from saliency_vae.uncertainty_evaluation import (
    FromPrior,
    add_images,
    add_pixels,
    gather_evidence,
    gather_images,
)
from saliency_vae.wandb_report import log_results

_LEAST = {
    "batch_size": 1,
    "num_workers": 0,
    "gallery": 0,
    "own_mask_images": 0,
    "reference_images": 0,
    "reference_runs": 0,
    "reference_steps": 1,
    "robustness_images": 0,
}
Load = Callable[[Dataset[Batch]], Iterator[Batch]]


@command("evaluate", paths=("explainer", "annotations", "randomised"))
def evaluate(config: Node, run: Path) -> None:
    """Evaluate as configured; write metrics, figures and report into the run's directory.

    Raises:
        ValueError: If a setting is wrong.
    """
    check(config)
    protocol = Protocol(config["removal"], config["steps"], config["tolerance"])
    torch.manual_seed(config["seed"])
    device = pick_device(config["device"])
    results = Results(seed=config["seed"])
    explainer = load_explainer(config["explainer"]).to(device)
    methods = contenders(config["methods"], config["baselines"], explainer, results.left_out)
    classifier = explained_classifier(explainer, config["classifier"], force=config["force"])
    classifier = classifier.to(device)
    images = images_of(config, explainer, classifier, results)
    batches = partial(
        load, batch_size=config["batch_size"], num_workers=config["num_workers"], device=device
    )

    def together(number: int) -> Batch:
        return next(load(first(images, number), batch_size=number, num_workers=0, device=device))

    strict = config["methods"] is not None
    methods = try_out(methods, together(1), classifier, results, strict=strict)
    kept = max(config["gallery"], config["own_mask_images"])
    total = len(images)  # type: ignore[arg-type]
    maps = measure(
        batches(images), methods, classifier, protocol, results, total=total, keep=kept
    )
    add_checks(results, config, protocol, methods, maps, classifier, together)
    results.about = about(config, explainer, classifier, protocol, device)
    results.findings = findings(results)
    if OURS in methods:
        add_randomised(results, images, batches, explainer, config)
        add_uncertainty(results, images, batches, explainer, classifier, methods, config)
    publish(results, maps, together, config, run)
