"""Captum's infidelity and max-sensitivity of every method."""

from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import DecisionProbability, Method, decide
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.results import Results

NOISE = 0.05  # standard deviation of the infidelity's noise, of images in [0, 1]
RADIUS = 0.02  # largest change of a pixel for the max-sensitivity
DRAWS = 10


def add_robustness(
    results: Results, methods: Mapping[str, Method], batch: Batch, classifier: FrozenClassifier
) -> None:
    """Add ``infidelity`` and ``sensitivity`` of the images of a batch, or say why not.

    Each method is asked eleven times more; all see the same noise.

    Args:
        results: To add to.
        methods: By name.
        batch: First images.
        classifier: To explain.
    """
    if find_spec("captum") is None:
        results.left_out.append(
            "Infidelity, max-sensitivity: they need pip install 'saliency-vae[captum]'."
        )
        return
    for name, method in tqdm(methods.items(), desc="Robustness", unit="method"):
        found = robustness(method, batch, classifier, seed=results.seed)
        for metric, values in zip(("infidelity", "sensitivity"), found, strict=True):
            results.values.setdefault(metric, {})[name] = values


def robustness(
    method: Method, batch: Batch, classifier: FrozenClassifier, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Infidelity (its map scaled at best) and max-sensitivity of the images of a batch.

    Args:
        method: To ask.
        batch: Of B images.
        classifier: To explain.
        seed: Of the noise; torch's own random numbers stay as they were.

    Returns:
        Two of (B,), on the CPU.
    """
    from captum.metrics import infidelity, sensitivity_max

    images = batch["image"]

    def explain(inputs: tuple[Tensor, ...] | Tensor) -> tuple[Tensor, ...]:
        asked: Batch = {**batch, "image": inputs[0] if isinstance(inputs, tuple) else inputs}
        maps = method(asked, classifier)
        return (maps[:, None].expand_as(images).contiguous(),)

    def disturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = NOISE * torch.randn_like(inputs)
        return noise, inputs - noise

    with torch.random.fork_rng([images.device] if images.device.type == "cuda" else []):
        torch.manual_seed(seed)
        unfaithful = infidelity(
            DecisionProbability(classifier),
            disturb,
            images,
            explain(images),
            additional_forward_args=decide(images, classifier),
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
