"""Robustness: Captum's infidelity and max-sensitivity of every method."""

from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method, TargetProbability, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.explaining import explain_batch
from saliency_vae.evaluation.methods import Methods
from saliency_vae.evaluation.progress import Progress
from saliency_vae.evaluation.scores import Scores
from saliency_vae.runtime.extras import MissingExtraError, require
from saliency_vae.runtime.random import seeded

NOISE = 0.05  # standard deviation of the noise for infidelity; images are in [0, 1]
RADIUS = 0.02  # largest change of a pixel for max-sensitivity
DRAWS = 10  # noise samples for each of the two


def with_robustness(
    scores: Scores,
    methods: Methods,
    batch: Batch,
    classifier: FrozenClassifier,
    progress: Progress,
) -> Scores:
    """Add ``infidelity`` and ``sensitivity`` for the images of a batch, or why they are missing.

    Each method explains the batch twelve more times; all methods see the same noise. Slow methods
    are left out.

    Args:
        scores: Scores of the methods so far.
        methods: Methods after warming up.
        batch: First images, with the classifier's decision.
        classifier: Classifier to explain.
        progress: Parts that an earlier evaluation with the same settings has done.
    """
    try:
        require("captum", extra="captum", wanted_by="them")
    except MissingExtraError as error:
        return scores.extended(left_out=[f"Infidelity and max-sensitivity: {error}"])
    values: dict[str, dict[str, Tensor]] = {"infidelity": {}, "sensitivity": {}}
    fast = {name: method for name, method in methods.by_name.items() if not methods.is_slow(name)}
    turns = methods.costly_first()
    for name, method in tqdm(fast.items(), desc="Robustness", unit="method"):
        compute = partial(robustness, method, batch, classifier, seed=scores.seed)
        rows = slice(0, len(batch["image"]))
        found = progress.rows(f"robustness/{name}", rows, compute, turns.index(name))
        for metric, of_method in (found or {}).items():
            values[metric][name] = of_method
    return scores.extended(values)


def robustness(
    method: Method, batch: Batch, classifier: FrozenClassifier, *, seed: int
) -> dict[str, Tensor]:
    """Measure infidelity, with the map scaled optimally, and max-sensitivity.

    Args:
        method: Method to measure.
        batch: Batch of B images, with the classifier's decision.
        classifier: Classifier to explain.
        seed: Seed of the noise; torch's random state is restored.

    Returns:
        ``infidelity`` and ``sensitivity``, each (B,), on the CPU.
    """
    from captum.metrics import infidelity, sensitivity_max

    images = batch["image"]

    def explain(inputs: tuple[Tensor, ...] | Tensor) -> tuple[Tensor, ...]:
        noisy: Batch = {**batch, "image": inputs[0] if isinstance(inputs, tuple) else inputs}
        maps = explain_batch(method, noisy, classifier)
        return (maps[:, None].expand_as(images).contiguous(),)

    def disturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = NOISE * torch.randn_like(inputs)
        return noise, inputs - noise

    with seeded(seed, images.device):
        unfaithful = infidelity(
            TargetProbability(classifier),
            disturb,
            images,
            explain(images),
            additional_forward_args=target_of(batch, classifier),
            n_perturb_samples=DRAWS,
            max_examples_per_batch=len(images),
            normalize=True,
        )
        sensitive = sensitivity_max(
            explain,
            images,
            perturb_radius=RADIUS,
            n_perturb_samples=DRAWS,
            max_examples_per_batch=len(images),  # one draw at a time, to match the masks
        )
    return {"infidelity": unfaithful.detach().cpu(), "sensitivity": sensitive.detach().cpu()}
