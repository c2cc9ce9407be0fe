"""The stages of an evaluation: each one returns values, from which the results are put together."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from saliency_vae.cli.validation import Node
from saliency_vae.evaluation.baseline_images import BASELINE_IMAGES, other_baseline_images
from saliency_vae.evaluation.preparation import Setup, prepare
from saliency_vae.evaluation.report import log_results, publish
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.robustness import with_robustness
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.run_metadata import describe_run
from saliency_vae.evaluation.sanity import (
    compare_with_randomised,
    note_other_classifier,
    with_own_mask,
)
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.scoring import measure
from saliency_vae.evaluation.uncertainty import (
    UncertaintyReport,
    assess_corruption,
    assess_images,
    assess_pixels,
    gather_pixel_maps,
    gather_uncertainties,
)
from saliency_vae.evaluation.verdicts import Comparison, compare_with_rivals
from saliency_vae.runtime.loggers import wandb_logger

# Settings of a number of images, and what is not measured where it is 0.
_MEASURED_ON = {
    "own_mask_images": "Own mask",
    "robustness_images": "Infidelity and max-sensitivity",
    "corruption_images": "Confidence on corrupted images",
}


def run_evaluation(config: Node, run: Path) -> Results:
    """Evaluate an explainer beside other methods, and write the results.

    Args:
        config: Settings, those of ``conf/evaluate.yaml``.
        run: Directory to write into.

    Raises:
        ValueError: If a setting is wrong.
    """
    setup = prepare(config)
    scores, maps = score_methods(config, setup)
    metadata = describe_run(config, setup.explainer, setup.classifier, setup.images)
    Results(scores, run_metadata=metadata).save(run)  # the following stages take long too
    scores = add_checks(config, setup, scores, maps)
    comparison = compare(setup, scores)
    uncertainty = assess_uncertainty(config, setup, scores)
    results = Results(scores, comparison, uncertainty, metadata)
    figures = publish(results, maps, setup.images.first(config["gallery"]), run)
    if config["wandb"]:
        logger = wandb_logger(str(run), name="evaluation")
        log_results(logger, results, figures, run / "report.html")
    return results


def score_methods(config: Node, setup: Setup) -> tuple[Scores, dict[str, Tensor]]:
    """Score all methods on all images; returns their maps of the first images too."""
    scores, maps = measure(
        setup.images,
        setup.methods,
        setup.classifier,
        setup.protocol,
        keep=max(config["gallery"], config["own_mask_images"]),
        seed=config["seed"],
    )
    left_out = (*switched_off(config), *setup.methods.left_out, *setup.images.left_out)
    return scores.extended(left_out=left_out), maps


def switched_off(config: Node) -> list[str]:
    """What the settings leave out, and which setting would measure it, one sentence each."""
    off = {name: what for name, what in _MEASURED_ON.items() if not config[name]}
    lines = [f"{what}: measured with {name}=N." for name, what in off.items()]
    if others := other_baseline_images(config["baseline_images"]):
        every = f"baseline_images=[{','.join(BASELINE_IMAGES)}]"
        lines.append(f"Insertion and deletion over {', '.join(others)}: measured with {every}.")
    return lines


def add_checks(config: Node, setup: Setup, scores: Scores, maps: Mapping[str, Tensor]) -> Scores:
    """Add the slower scores, of the first images alone: own mask, robustness."""
    if config["own_mask_images"] > 1 and len(setup.images) > 1:
        images = setup.images.first(config["own_mask_images"]).as_batch()["image"]
        baselines = setup.protocol.make_baseline_images(images, setup.classifier)
        first_maps = {name: values[: len(images)] for name, values in maps.items()}
        baseline = baselines[setup.protocol.baseline_images[0]]
        scores = with_own_mask(scores, first_maps, images, baseline, setup.classifier)
    if config["robustness_images"]:
        batch = setup.images.first(config["robustness_images"]).as_batch()
        scores = with_robustness(scores, setup.methods.by_name, batch, setup.classifier)
    return scores


def compare(setup: Setup, scores: Scores) -> Comparison:
    """Compare the explainer with its rivals, and with that of a randomised classifier."""
    verdicts = [
        *note_other_classifier(setup.explainer, setup.classifier),
        *compare_with_rivals(scores),
    ]
    if EXPLAINER not in scores.methods:
        return Comparison(tuple(verdicts))
    if setup.randomised is None:
        how = "measured with randomised=DIR, the directory of its explainer."
        return Comparison(tuple(verdicts), (f"Sanity check with a randomised classifier: {how}",))
    verdict = compare_with_randomised(
        setup.images, setup.explainer, setup.randomised, seed=scores.seed
    )
    return Comparison((*verdicts, verdict))


def assess_uncertainty(config: Node, setup: Setup, scores: Scores) -> UncertaintyReport:
    """Report what the explainer's uncertainty of pixels and of images is worth."""
    if EXPLAINER not in scores.methods:
        return UncertaintyReport()
    explainer, classifier, seed = setup.explainer, setup.classifier, scores.seed
    vargrad = setup.methods.by_name.get("vargrad")
    referenced = setup.images.first(config["reference_images"])
    if setup.runs and len(referenced):
        maps = gather_pixel_maps(referenced, explainer, classifier, setup.runs, vargrad)
        report = assess_pixels(maps, seed=seed)
    else:
        how = "there are no independent runs, see reference_images, reference_runs and ensemble."
        report = UncertaintyReport(left_out=(f"Uncertainty of pixels: {how}",))
    failed = scores.values["agreement_5"][EXPLAINER] == 0
    insertion = scores.values["insertion"][EXPLAINER]
    uncertainties = gather_uncertainties(setup.images, explainer, classifier, vargrad)
    report += assess_images(uncertainties, failed, insertion, seed=seed)
    corrupted = setup.images.first(config["corruption_images"])
    if len(corrupted):
        report += assess_corruption(corrupted, explainer, classifier, seed=seed)
    return report
