"""Robustness: Captum's infidelity and max-sensitivity of every method."""

from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method, TargetProbability, asked
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.scores import Scores

NOISE = 0.05  # standard deviation of the noise of the infidelity; images are in [0, 1]
RADIUS = 0.02  # largest change of a pixel for the max-sensitivity
DRAWS = 10  # of noise, for each of the two


def with_robustness(
    scores: Scores, methods: Mapping[str, Method], batch: Batch, classifier: FrozenClassifier
) -> Scores:
    """Add ``infidelity`` and ``sensitivity`` for the images of a batch, or why they are missing.

    Each method explains the batch eleven times more; all methods see the same noise.

    Args:
        scores: Scores of the methods so far.
        methods: Methods by name.
        batch: First images.
        classifier: Classifier to explain.
    """
    if find_spec("captum") is None:
        needs = "they need Captum, pip install 'saliency-vae[captum]'."
        return scores.extended(left_out=[f"Infidelity and max-sensitivity: {needs}"])
    values: dict[str, dict[str, Tensor]] = {"infidelity": {}, "sensitivity": {}}
    for name, method in tqdm(methods.items(), desc="Robustness", unit="method"):
        found = robustness(method, batch, classifier, seed=scores.seed)
        values["infidelity"][name], values["sensitivity"][name] = found
    return scores.extended(values)


def robustness(
    method: Method, batch: Batch, classifier: FrozenClassifier, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Measure infidelity, of the map scaled as well as possible, and max-sensitivity.

    Args:
        method: Method to measure.
        batch: Batch of B images.
        classifier: Classifier to explain.
        seed: Seed of the noise; torch's own random numbers stay as they were.

    Returns:
        Infidelity (B,) and max-sensitivity (B,), on the CPU.
    """
    from captum.metrics import infidelity, sensitivity_max

    images = batch["image"]

    def explain(inputs: tuple[Tensor, ...] | Tensor) -> tuple[Tensor, ...]:
        noisy: Batch = {**batch, "image": inputs[0] if isinstance(inputs, tuple) else inputs}
        maps = method(noisy, classifier)
        return (maps[:, None].expand_as(images).contiguous(),)

    def disturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = NOISE * torch.randn_like(inputs)
        return noise, inputs - noise

    with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
        torch.manual_seed(seed)
        unfaithful = infidelity(
            TargetProbability(classifier),
            disturb,
            images,
            explain(images),
            additional_forward_args=asked(batch, classifier),
            n_perturb_samples=DRAWS,
            max_examples_per_batch=len(images),
            normalize=True,
        )
        sensitive = sensitivity_max(
            explain,
            images,
            perturb_radius=RADIUS,
            n_perturb_samples=DRAWS,
            max_examples_per_batch=len(images),  # one draw at a time: as many images as masks
        )
    return unfaithful.detach().cpu(), sensitive.detach().cpu()
