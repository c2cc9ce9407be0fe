"""Checks beside the scores of all images, each on a few images and switched off by a setting."""

from collections.abc import Mapping
from functools import partial

from hydra.utils import instantiate
from torch import Tensor

from saliency_vae.cli.validation import Node
from saliency_vae.evaluation.eval_x import eval_x, training_images, tune_on_random_masks
from saliency_vae.evaluation.pointing import (
    ask_about_two_objects,
    build_grids,
    grid_pointing_game,
    two_object_images,
)
from saliency_vae.evaluation.preparation import Setup, predict
from saliency_vae.evaluation.progress import Progress
from saliency_vae.evaluation.robustness import with_robustness
from saliency_vae.evaluation.sanity import with_own_mask
from saliency_vae.evaluation.scores import Scores
from saliency_vae.evaluation.scoring import with_decision

# Settings of a number, and what is not measured where it is 0.
_MEASURED_WITH = {
    "own_mask_images": "Own mask",
    "robustness_images": "Infidelity and max-sensitivity",
    "corruption_images": "Confidence on corrupted images",
    "grid_questions": "Grid pointing game",
    "eval_x_steps": "EVAL-X",
}
_EVAL_X_HELD_OUT = 64  # most images that the fit of EVAL-X's classifier is measured on


def switched_off(config: Node) -> list[str]:
    """What the settings leave out, and which setting would measure it, one sentence each."""
    off = {name: what for name, what in _MEASURED_WITH.items() if not config[name]}
    return [f"{what}: measured with {name}=N." for name, what in off.items()]


def add_checks(
    config: Node,
    setup: Setup,
    scores: Scores,
    maps: Mapping[str, Tensor],
    progress: Progress,
) -> Scores:
    """Add the scores of all checks that the settings ask for.

    Args:
        config: Settings of the evaluation.
        setup: What the evaluation needs.
        scores: Scores of the methods so far.
        maps: Method to its maps of the first images, (N, H, W).
        progress: What an earlier evaluation of the same settings has done already.
    """
    if config["own_mask_images"] > 1 and len(setup.images) > 1:
        images = setup.images.first(config["own_mask_images"]).as_batch()["image"]
        baseline = setup.protocol.make_baseline_images(images, setup.classifier)
        first = baseline[setup.protocol.baseline_images[0]]
        number = len(images)
        first_maps = {name: of[:number] for name, of in maps.items() if len(of) >= number}
        scores = with_own_mask(scores, first_maps, images, first, setup.classifier)
    if config["robustness_images"]:
        batch = with_decision(
            setup.images.first(config["robustness_images"]).as_batch(), setup.classifier
        )
        scores = with_robustness(scores, setup.methods, batch, setup.classifier, progress)
    if config["grid_questions"]:
        scores = with_grid_game(config, setup, scores, progress)
    if config["two_object_images"]:
        scores = with_two_objects(config, setup, scores, progress)
    if config["eval_x_steps"]:
        scores = with_eval_x(config, setup, scores, maps, progress)
    return scores


def with_grid_game(config: Node, setup: Setup, scores: Scores, progress: Progress) -> Scores:
    """Add the grid pointing game of the images, or why there is none."""
    questions, slow = config["grid_questions"], config["slow_images"]
    try:
        grids = build_grids(
            setup.images, setup.classifier, questions=questions, seed=config["seed"]
        )
    except ValueError as error:
        return scores.extended(left_out=[f"Grid pointing game: {error}"])
    answers = grid_pointing_game(
        setup.methods.by_name,
        grids,
        setup.classifier,
        limits=_slow_limits(setup, None if slow is None else slow // 4),
        progress=progress,
    )
    notes = {"grid pointing game": grids.name}
    return scores.extended(answers.values, left_out=answers.left_out, notes=notes)


def with_two_objects(config: Node, setup: Setup, scores: Scores, progress: Progress) -> Scores:
    """Add what images of two objects show, or why there are none."""
    try:
        images = two_object_images(
            setup.data,
            setup.images,
            partial(predict, setup.classifier),
            config["two_object_images"],
        )
    except ValueError as error:
        return scores.extended(left_out=[f"Images of two objects: {error}"])
    answers = ask_about_two_objects(
        setup.methods.by_name,
        images,
        setup.classifier,
        limits=_slow_limits(setup, config["slow_images"]),
        progress=progress,
    )
    notes = {"images of two objects": images.name}
    return scores.extended(answers.values, left_out=answers.left_out, notes=notes)


def _slow_limits(setup: Setup, number: int | None) -> dict[str, int]:
    """Number of images for each slow method; none where it is not limited."""
    if number is None:
        return {}
    return {name: number for name in setup.methods.by_name if setup.methods.is_slow(name)}


def with_eval_x(
    config: Node,
    setup: Setup,
    scores: Scores,
    maps: Mapping[str, Tensor],
    progress: Progress,
) -> Scores:
    """Add what a classifier that is used to masks decides from the kept views (EVAL-X)."""
    number = min(len(values) for values in maps.values())
    batch = with_decision(setup.images.first(number).as_batch(), setup.classifier)
    remove = partial(setup.protocol.remove, setup.classifier)
    batches = training_images(
        instantiate(config["data"], _convert_="all"),
        setup.classifier.preprocessing,
        setup.classifier.mean.device,
        seed=config["seed"],
    )
    judge = tune_on_random_masks(
        setup.classifier,
        batches,
        remove,
        batch["image"][:_EVAL_X_HELD_OUT],
        steps=config["eval_x_steps"],
        seed=config["seed"],
    )
    values = eval_x(
        judge.classifier,
        maps,
        batch["image"],
        batch["decision"],
        remove,
        fraction=scores.fraction / 100,
    )
    return scores.extended({"eval_x": values["eval_x"]}, notes={"EVAL-X": str(judge)})
