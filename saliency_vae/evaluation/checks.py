"""Checks beside the scores of all images, each on a few images and switched off by a setting."""

from collections.abc import Mapping
from functools import partial

from hydra.utils import instantiate
from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.cli.validation import Node
from saliency_vae.evaluation.eval_x import eval_x, training_images, tune_on_random_masks
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.pointing import (
    Answers,
    ask_about_two_objects,
    build_grids,
    grid_pointing_game,
    two_object_images,
)
from saliency_vae.evaluation.preparation import Setup, predict
from saliency_vae.evaluation.progress import Progress
from saliency_vae.evaluation.report import questions_figure
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
    "two_object_images": "Images of two objects",
    "eval_x_steps": "EVAL-X",
}
_GRID_PASSES = 30  # passes an image up to which a method is asked about all grids
_LEAST_GRIDS = 5
_DRAWN_GRIDS, _DRAWN_PAIRS = 2, 4
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
) -> tuple[Scores, dict[str, Figure]]:
    """Add the scores of all checks that the settings ask for.

    Args:
        config: Settings of the evaluation.
        setup: What the evaluation needs.
        scores: Scores of the methods so far.
        maps: Method to its maps of the first images, (N, H, W).
        progress: What an earlier evaluation of the same settings has done already.

    Returns:
        The scores, and by name figures of the maps of some questions.
    """
    figures: dict[str, Figure] = {}
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
        scores, drawn = with_grid_game(config, setup, scores, progress)
        figures |= drawn
    if config["two_object_images"]:
        scores, drawn = with_two_objects(config, setup, scores, progress)
        figures |= drawn
    if config["eval_x_steps"]:
        scores = with_eval_x(config, setup, scores, maps)
    return scores, figures


def with_grid_game(
    config: Node, setup: Setup, scores: Scores, progress: Progress
) -> tuple[Scores, dict[str, Figure]]:
    """Add the grid pointing game of the images, or why there is none; and draw some grids."""
    try:
        grids = build_grids(
            setup.images,
            setup.classifier,
            questions=config["grid_questions"],
            seed=config["seed"],
        )
    except ValueError as error:
        return scores.extended(left_out=[f"Grid pointing game: {error}"]), {}
    answers = grid_pointing_game(
        setup.methods.by_name,
        grids,
        setup.classifier,
        limits=_grid_limits(setup, len(grids)),
        keep=_DRAWN_GRIDS,
        progress=progress,
    )
    notes = {"grid pointing game": grids.name}
    scores = scores.extended(answers.values, left_out=answers.left_out, notes=notes)
    return scores, _draw("grids", grids.first(_DRAWN_GRIDS), answers, setup, scores)


def with_two_objects(
    config: Node, setup: Setup, scores: Scores, progress: Progress
) -> tuple[Scores, dict[str, Figure]]:
    """Add what images of two objects show, or why there are none; and draw some of them."""
    try:
        images = two_object_images(
            setup.data,
            setup.images,
            partial(predict, setup.classifier),
            config["two_object_images"],
        )
    except ValueError as error:
        return scores.extended(left_out=[f"Images of two objects: {error}"]), {}
    answers = ask_about_two_objects(
        setup.methods.by_name,
        images,
        setup.classifier,
        limits=_slow_limits(setup, config["slow_images"]),
        keep=_DRAWN_PAIRS,
        progress=progress,
    )
    notes = {"images of two objects": images.name}
    scores = scores.extended(answers.values, left_out=answers.left_out, notes=notes)
    return scores, _draw("two_objects", images.first(_DRAWN_PAIRS), answers, setup, scores)


def _draw(
    name: str, images: Images, answers: Answers, setup: Setup, scores: Scores
) -> dict[str, Figure]:
    """Draw the maps of a few images, one for each question; no figure if no method could answer."""
    if not answers.maps:
        return {}
    batch = images.as_batch()
    names = [
        [setup.classifier.category(index) for index in of_image]
        for of_image in batch["object_classes"].tolist()
    ]
    pictures, masks = batch["image"].cpu(), batch["object_masks"].cpu()
    figure = questions_figure(pictures, masks, names, answers.maps, roles=scores.roles)
    return {name: figure}


def _grid_limits(setup: Setup, number: int) -> dict[str, int]:
    """Number of grids for each method of many passes, each of which is of four images' pixels.

    All others are asked about all grids. Methods that would be asked about too few are left out.
    """
    limits = {
        name: round(number * _GRID_PASSES / passes)
        for name, passes in setup.methods.passes.items()
        if passes > _GRID_PASSES
    }
    return {name: limit if limit >= _LEAST_GRIDS else 0 for name, limit in limits.items()}


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
