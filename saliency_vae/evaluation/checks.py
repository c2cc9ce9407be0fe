"""Checks on a few images, in addition to the scores of all images; a setting of 0 disables one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from matplotlib.figure import Figure
from torch import Tensor

from saliency_vae.cli.validation import Node
from saliency_vae.evaluation.eval_x import eval_x, training_images, tune_on_random_masks
from saliency_vae.evaluation.images import Images
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.pointing import (
    GRID_POINTING,
    TWO_OBJECTS,
    Game,
    ask_all,
    build_grids,
    score_object,
    two_object_images,
)
from saliency_vae.evaluation.preparation import Setup, predict
from saliency_vae.evaluation.progress import Progress
from saliency_vae.evaluation.protocol import Protocol, with_decision
from saliency_vae.evaluation.report import questions_figure
from saliency_vae.evaluation.robustness import with_robustness
from saliency_vae.evaluation.sanity import with_own_mask
from saliency_vae.evaluation.scores import Scores

# Numeric setting to the check that it disables when it is 0.
_MEASURED_WITH = {
    "own_mask_images": "Own mask",
    "robustness_images": "Infidelity and max-sensitivity",
    "posterior_images": "Posterior predictive checks and swap test",
    "corruption_images": "Confidence on corrupted images",
    "grid_questions": "Grid pointing game",
    "two_object_images": "Images of two objects",
    "eval_x_steps": "EVAL-X",
}
# Passes per question; the cost of a pass is proportional to the size of the image. A method that
# takes more passes is asked about fewer images.
_PASSES = 120
_LEAST = 5  # images; a method that can afford fewer is not asked at all
_DRAWN = 3  # images whose maps are plotted
_EVAL_X_HELD_OUT = 64  # most images used to measure the fit of EVAL-X's classifier


def switched_off(config: Node) -> list[str]:
    """Name each disabled check and the setting that enables it, one sentence each."""
    off = {name: what for name, what in _MEASURED_WITH.items() if not config[name]}
    return [f"{what}: measured with {name}=N." for name, what in off.items()]


def add_checks(
    config: Node,
    setup: Setup,
    scores: Scores,
    maps: Mapping[str, Tensor],
    progress: Progress,
) -> tuple[Scores, dict[str, Figure]]:
    """Add the scores of all checks that the settings enable.

    Args:
        config: Settings of the evaluation.
        setup: What the evaluation needs.
        scores: Scores of the methods so far.
        maps: Method to its maps of the first images, (N, H, W).
        progress: Parts that an earlier evaluation with the same settings has done.

    Returns:
        The scores, and figures of the maps of some questions, by name.
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
        scores, drawn = play(GRID_POINTING, make_grids, config, setup, scores, progress)
        figures |= drawn
    if config["two_object_images"]:
        near = partial(score_object, tolerance=setup.protocol.tolerance)
        game = replace(TWO_OBJECTS, score=near)
        scores, drawn = play(game, make_pairs, config, setup, scores, progress)
        figures |= drawn
    if config["eval_x_steps"]:
        scores = with_eval_x(config, setup, scores, maps)
    return scores, figures


def make_grids(config: Node, setup: Setup) -> Images:
    """Grids of the evaluated images, see :func:`build_grids`."""
    questions, seed = config["grid_questions"], config["seed"]
    return build_grids(setup.images, setup.classifier, questions=questions, seed=seed)


def make_pairs(config: Node, setup: Setup) -> Images:
    """Images of two objects, see :func:`two_object_images`."""
    number = config["two_object_images"]
    predictor = partial(predict, setup.classifier)
    return two_object_images(setup.data, setup.images, predictor, number)


def play(
    game: Game,
    make_images: Callable[[Node, Setup], Images],
    config: Node,
    setup: Setup,
    scores: Scores,
    progress: Progress,
) -> tuple[Scores, dict[str, Figure]]:
    """Add the scores of a pointing game, or the reason why it cannot be played.

    Returns:
        The scores, and a figure of the maps of the first images, by name.
    """
    try:
        images = make_images(config, setup)
    except ValueError as error:
        return scores.extended(left_out=[f"{game.title}: {error}"]), {}
    pixels, usual = (of.dataset[0]["image"].numel() for of in (images, setup.images))
    answers = ask_all(
        game,
        setup.methods.by_name,
        images,
        setup.classifier,
        limits=most_images(setup.methods, setup.protocol, len(images), pixels / usual),
        keep=_DRAWN,
        progress=progress,
    )
    notes = {game.title: images.name}
    groups = dict.fromkeys(answers.values, answers.groups)
    scores = scores.extended(
        answers.values, question_groups=groups, left_out=answers.left_out, notes=notes
    )
    maps = {name: drawn for name, drawn in answers.maps.items() if len(drawn)}
    if not maps:  # this partition has none
        return scores, {}
    batch = images.first(_DRAWN).as_batch()
    names = [
        [setup.classifier.category(index) for index in of_image]
        for of_image in batch["object_classes"].tolist()
    ]
    pictures, masks = batch["image"].cpu(), batch["object_masks"].cpu()
    figure = questions_figure(pictures, masks, names, maps, roles=scores.roles)
    return scores, {game.name: figure}


def most_images(
    methods: Methods, protocol: Protocol, number: int, size: float = 1.0
) -> dict[str, int]:
    """Limit the number of images for each method that would take too many passes on all of them.

    Slow methods that are not scored at all get 0 images.

    Args:
        methods: Methods after warming up.
        protocol: How maps are scored.
        number: Number of images, each with several questions.
        size: Size of an image relative to an evaluated one, and so the relative cost of a pass.

    Example:
        >>> methods = Methods({}, passes={"gradient": 1, "rise": 1000, "lime": 300})
        >>> most_images(methods, Protocol(), 50)
        {'rise': 6, 'lime': 20}
        >>> most_images(methods, Protocol(slow_images=0), 50)
        {'rise': 0, 'lime': 0}
    """
    affordable = _PASSES * number / size
    limits = {
        name: 0 if protocol.limit(methods, name, number) == 0 else round(affordable / passes)
        for name, passes in methods.passes.items()
        if passes * number > affordable or methods.is_slow(name)
    }
    return {name: min(limit, number) if limit >= _LEAST else 0 for name, limit in limits.items()}


def with_eval_x(
    config: Node,
    setup: Setup,
    scores: Scores,
    maps: Mapping[str, Tensor],
) -> Scores:
    """Add EVAL-X: what a classifier tuned on random masks decides from the kept views."""
    number = max(len(values) for values in maps.values())
    if not number:
        reason = "EVAL-X: measured on the images of gallery=N and own_mask_images=N. Found none."
        return scores.extended(left_out=[reason])
    batch = with_decision(setup.images.first(number).as_batch(), setup.classifier)
    remove = partial(setup.protocol.remove, setup.classifier)
    batches = training_images(
        setup.data,
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
        fraction=scores.kept_percent / 100,
    )
    return scores.extended({"eval_x": values}, notes={"EVAL-X": str(judge)})
