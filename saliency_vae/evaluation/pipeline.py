"""The stages of an evaluation; the values that they return make up the results."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier, parameter_hash
from saliency_vae.cli.run_directory import is_given
from saliency_vae.cli.validation import Node
from saliency_vae.data import Batch, image_name
from saliency_vae.evaluation.baseline_images import (
    BASELINE_IMAGES,
    other_baseline_images,
    seen_in_training,
)
from saliency_vae.evaluation.captions import captions_of
from saliency_vae.evaluation.checks import add_checks, switched_off
from saliency_vae.evaluation.methods import ExplainerMethod
from saliency_vae.evaluation.metric_info import over
from saliency_vae.evaluation.preparation import Setup, prepare
from saliency_vae.evaluation.progress import Part, Progress, begin
from saliency_vae.evaluation.randomised import TRAIN, ask_randomised, train_randomised
from saliency_vae.evaluation.report import publish
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.roles import EXPLAINER
from saliency_vae.evaluation.run_metadata import describe_run
from saliency_vae.evaluation.sanity import (
    compare_with_randomised,
    note_other_classifier,
)
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.scoring import measure
from saliency_vae.evaluation.signal_verdicts import compare_with_signal_controls
from saliency_vae.evaluation.uncertainty import (
    PixelMaps,
    PosteriorChecks,
    UncertaintyReport,
    assess_corruption,
    assess_images,
    assess_pixels,
    assess_posterior,
    assess_selection,
    check_posterior,
    explain_batches,
    gather_pixel_maps,
    gather_uncertainties,
    rival_uncertainties,
)
from saliency_vae.evaluation.verdicts import Comparison, compare_with_rivals
from saliency_vae.inference.partition import Locks, Partition
from saliency_vae.runtime.loggers import wandb_logger

# Upper limits of the settings in a quick evaluation.
_QUICK = {
    "limit": 50,
    "slow_images": 0,
    "slow_passes": 30,
    "steps": 8,
    "own_mask_images": 8,  # every method's masks on every other image
    "robustness_images": 0,
    "grid_questions": 12,  # three grids
    "two_object_images": 10,
    "reference_images": 0,
    "posterior_images": 0,
    "corruption_images": 20,
}
# Settings that no part of the results depends on.
_NO_RESULTS = ("device", "num_workers", "batch_size", "partition", "wandb", "quick")
# Checks that need the maps of all partitions, or train: only the last partition runs them.
_AT_THE_END = {"own_mask_images": 0, "eval_x_steps": 0}


def run_evaluation(config: Node, run: Path) -> Results | None:
    """Evaluate an explainer against other methods, and write the results.

    Args:
        config: Settings, those of ``conf/evaluate.yaml``.
        run: Directory to write into.

    Returns:
        The results; None if another partition has not finished yet, and will write them.

    Raises:
        ValueError: If a setting is wrong, or another process evaluates the same partition.
    """
    config = at_most_quick(config) if config["quick"] else config
    partition = Partition.chosen(config["partition"] or "1/1")
    if partition.count > 1 and not is_given("hydra.run.dir"):
        raise ValueError(
            f"Expected hydra.run.dir=DIR, the same of all {partition.count} partitions. Found none."
        )
    setup = prepare(config)
    with Locks.opened(run / "progress/lock", run) as locks:
        with locks.starting():
            locks.take(partition, alone=False)
            progress = begin(run / "progress", fingerprint(config, setup), partition)
        if partition.count > 1:
            scores, _ = score_methods(config, setup, progress)
            add_checks({**config, **_AT_THE_END}, setup, scores, {}, progress)
        with locks.one_at_a_time():
            complete = progress.is_complete()
            return finish(config, setup, Progress(progress.directory), run) if complete else None


def finish(config: Node, setup: Setup, progress: Progress, run: Path) -> Results:
    """Measure what is still missing, and write the results."""
    scores, maps = score_methods(config, setup, progress)
    # The protocol may have added an unseen baseline image.
    measured = {**config, "baseline_images": setup.protocol.baseline_images}
    metadata = describe_run(measured, setup.explainer, setup.classifier, setup.images)
    Results(scores, run_metadata=metadata).save(run)  # saved now, because the next stages take long
    scores, drawn = add_checks(config, setup, scores, maps, progress)
    comparison = compare(config, setup, scores, run)
    uncertainty = assess_uncertainty(config, setup, scores, progress)
    results = Results(scores, comparison, uncertainty, {**metadata, **scores.notes})
    shown = setup.images.first(config["gallery"])
    captions = captions_of(shown, setup.classifier)
    figures = publish(results, maps, shown, run, captions=captions, further=drawn)
    if config["wandb"]:
        from saliency_vae.evaluation.report.wandb_tables import log_results  # loads W&B

        logger = wandb_logger(str(run), name="evaluation")
        log_results(logger, results, figures, run / "report.html")
    progress.remove()
    return results


def at_most_quick(config: Node) -> Node:
    """Cap the settings at those of a quick evaluation.

    Only the first and last baseline images are kept, by default blur and in-painting.
    """
    lowered = {
        key: most if config[key] is None else min(config[key], most) for key, most in _QUICK.items()
    }
    ends = list(dict.fromkeys([*config["baseline_images"][:1], *config["baseline_images"][-1:]]))
    return {**config, **lowered, "baseline_images": ends}


def fingerprint(config: Node, setup: Setup) -> Node:
    """Everything that the saved parts depend on: settings, weights of all networks, and images."""
    settings = {key: value for key, value in config.items() if key not in _NO_RESULTS}
    asked = {**setup.methods.by_name, **{f"run {n}": run for n, run in enumerate(setup.runs)}}
    weights = {
        name: parameter_hash(method.explainer)
        for name, method in asked.items()
        if isinstance(method, ExplainerMethod)
    }
    dataset = setup.images.dataset
    names = "\n".join(image_name(dataset, index) for index in range(len(setup.images)))
    return settings | {
        "weights": weights,
        "classifier_weights": setup.classifier.identity().sha256,
        "images": hashlib.sha256(names.encode()).hexdigest(),
    }


def score_methods(
    config: Node, setup: Setup, progress: Progress
) -> tuple[Scores, dict[str, Tensor]]:
    """Score all methods on all images; also returns their maps of the first images."""
    scores, maps = measure(
        setup.images,
        setup.methods,
        setup.classifier,
        setup.protocol,
        progress,
        keep=max(config["gallery"], config["own_mask_images"]),
        seed=config["seed"],
    )
    left_out = [*switched_off(config), *setup.methods.left_out, *setup.images.left_out]
    if others := other_baseline_images(setup.protocol.baseline_images):
        every = f"baseline_images=[{','.join(BASELINE_IMAGES)}]"
        left_out.append(f"Insertion and deletion over {', '.join(others)}: measured with {every}.")
    seen = frozenset(seen_in_training(setup.explainer.config.perturbation))
    identity = setup.classifier.identity()
    classifier_seen = {
        name: explainer.was_trained_for(identity) for name, explainer in setup.explainers.items()
    }
    known = replace(scores, seen=seen, classifier_seen=classifier_seen)
    if config["quick"]:
        left_out.append("Settings that are named here are measured with quick=false alone.")
    return known.extended(left_out=left_out), maps


def compare(config: Node, setup: Setup, scores: Scores, run: Path) -> Comparison:
    """Compare the explainer with rivals, controls and an explainer of a randomised classifier."""
    verdicts = [
        *note_other_classifier(setup.explainer, setup.classifier),
        *compare_with_rivals(scores),
        *compare_with_signal_controls(scores),
    ]
    if EXPLAINER not in scores.methods:
        return Comparison(tuple(verdicts))
    how = "measured with randomised=DIR, the directory of its explainer, or randomised=train."
    randomised = setup.randomised
    if randomised is None and setup.explainer.is_universal:
        try:
            randomised = ask_randomised(setup.explainer, setup.classifier)
        except ValueError as error:  # no weights to shuffle: quantised
            how = str(error)
    elif config["randomised"] == TRAIN:
        randomised = train_randomised(config, setup.classifier, run / "randomised")
    if randomised is None:
        return Comparison(tuple(verdicts), (f"Sanity check with a randomised classifier: {how}",))
    verdict = compare_with_randomised(
        setup.images, setup.explainer, randomised, resampling=scores.resampling()
    )
    return Comparison((*verdicts, verdict))


def assess_uncertainty(
    config: Node, setup: Setup, scores: Scores, progress: Progress
) -> UncertaintyReport:
    """Report how good the explainer's uncertainty is: posterior, pixels and images."""
    if EXPLAINER not in scores.methods:
        return UncertaintyReport()
    report = judge_posterior(config, setup, scores.resampling(), progress)
    explainer, classifier = setup.explainer, setup.classifier
    vargrad = setup.methods.by_name.get("vargrad")
    referenced = setup.images.first(config["reference_images"])
    if setup.runs and len(referenced):
        with tqdm(
            total=len(setup.runs) * referenced.batches, desc="Independent runs", unit="run"
        ) as bar:
            runs = [counted(run, bar.update) for run in setup.runs]
            rivals = rival_uncertainties(explainer, vargrad)
            gather = partial(gather_pixel_maps, referenced, explainer, classifier, runs, rivals)
            maps = progress.part("uncertainty/pixels", lambda: vars(gather()))
        report += assess_pixels(PixelMaps(**maps), resampling=scores.resampling())
    else:
        how = "there are no independent runs, see reference_images, reference_runs and ensemble."
        report += UncertaintyReport(left_out=(f"Uncertainty of pixels: {how}",))
    return report + assess_confidence(config, setup, scores, progress)


def assess_confidence(
    config: Node, setup: Setup, scores: Scores, progress: Progress
) -> UncertaintyReport:
    """Report how good the confidence in explanations is, whether estimated or measured."""
    explainer, classifier = setup.explainer, setup.classifier
    if explainer.confidence is None and not explainer.is_conditional:
        how = "this explainer has no confidence network; see confidence_width of its training."
        return UncertaintyReport(left_out=(f"Confidence in each explanation: {how}",))
    vargrad = setup.methods.by_name.get("vargrad")
    shown = tqdm(setup.images, "Uncertainty of images", setup.images.batches, unit="batch")
    ensemble = [run for run in setup.runs if isinstance(run, ExplainerMethod)]
    gather_all = partial(gather_uncertainties, shown, explainer, classifier, vargrad, ensemble)
    uncertainties = progress.part("uncertainty/images", gather_all)
    if explainer.confidence is None:
        how = "it is measured on the classifier, not estimated."
        left_out = f"Calibration of the confidence, on corrupted images too: {how}"
        report = assess_sufficiency(uncertainties, setup, scores)
        return report + UncertaintyReport(left_out=(left_out,))
    report = assess_estimate(uncertainties, setup, scores)
    corrupted = setup.images.first(config["corruption_images"])
    if len(corrupted):
        report += assess_corruption(
            corrupted, explainer, classifier, resampling=scores.resampling()
        )
    return report


def assess_estimate(
    uncertainties: Mapping[str, Tensor], setup: Setup, scores: Scores
) -> UncertaintyReport:
    """Report how good the estimated confidence is; it refers to views over a blur."""
    insertion, resampling = scores.values["insertion"][EXPLAINER], scores.resampling()
    first = setup.protocol.baseline_images[0]
    if first == "blur":
        failed = scores.values["agreement_5"][EXPLAINER] == 0
        return assess_images(uncertainties, failed, insertion, resampling=resampling)
    how = "measured with blur as the first of baseline_images, over which it is estimated."
    report = assess_selection(uncertainties, insertion, resampling=resampling, baseline=first)
    return report + UncertaintyReport(left_out=(f"Failures predicted by the confidence: {how}",))


def assess_sufficiency(
    uncertainties: Mapping[str, Tensor], setup: Setup, scores: Scores
) -> UncertaintyReport:
    """Report whether explanations of low sufficiency, measured over a blur, are worse.

    They are judged over a baseline image that is no blur and that training did not use.
    """
    first, *others = setup.protocol.baseline_images
    fresh = [name for name in (first, *others) if name not in {*scores.seen, "blur"}]
    if not fresh:
        how = "measured with one more of baseline_images, such as inpaint."
        return UncertaintyReport(left_out=(f"Selection by measured sufficiency: {how}",))
    metric = over("insertion", "" if fresh[0] == first else fresh[0])
    insertion = scores.values[metric][EXPLAINER]
    return assess_selection(
        uncertainties, insertion, resampling=scores.resampling(), baseline=fresh[0]
    )


def judge_posterior(
    config: Node, setup: Setup, resampling: Resampling, progress: Progress
) -> UncertaintyReport:
    """Run and report the posterior predictive checks and the swap test."""
    images = setup.images.first(config["posterior_images"])
    if not len(images):
        return UncertaintyReport()

    def check() -> Part:
        explained = explain_batches(images, setup.explainer, setup.classifier)
        found = check_posterior(
            explained, setup.classifier, setup.methods.by_name, seed=resampling.seed
        )
        return cast(Part, found)

    found = progress.part("uncertainty/posterior", check)
    return assess_posterior(cast(PosteriorChecks, found), resampling=resampling)


def counted(method: Method, count: Callable[[], object]) -> Method:
    """Wrap a method so that it calls ``count`` after each batch."""

    def explain(batch: Batch, classifier: FrozenClassifier) -> Tensor:
        maps = method(batch, classifier)
        count()
        return maps

    return explain
