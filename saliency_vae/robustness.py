"""Captum's infidelity and max-sensitivity of every method."""

from collections.abc import Mapping

import torch
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import Method
from saliency_vae.baselines.decision import DecisionProbability, decide
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data.datamodule import Batch
from saliency_vae.results import Results

NOISE = 0.05  # standard deviation of the perturbation, of images in [0, 1]
RADIUS = 0.02
DRAWS = 10


def add_robustness(
    results: Results, methods: Mapping[str, Method], batch: Batch, classifier: FrozenClassifier
) -> None:
    """Add ``infidelity`` and ``sensitivity`` of the images of a batch to the results.

    Each method is asked ten times more for the sensitivity.
    """
    try:
        from captum.metrics import infidelity, sensitivity_max
    except ImportError:
        results.left_out.append(
            "Infidelity, max-sensitivity: they need pip install 'saliency-vae[captum]'."
        )
        return
    images = batch["image"]
    score = DecisionProbability(classifier)
    decision = decide(images, classifier)

    def disturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = NOISE * torch.randn_like(inputs)
        return noise, inputs - noise

    for name, method in tqdm(methods.items(), desc="Robustness", unit="method"):

        def explain(inputs: tuple[Tensor, ...], method: Method = method) -> tuple[Tensor, ...]:
            # Captum repeats each image DRAWS times; only the mask is ours to repeat.
            asked: Batch = {"image": inputs[0]}
            if "mask" in batch:
                asked["mask"] = batch["mask"].repeat_interleave(len(inputs[0]) // len(images), 0)
            return (method(asked, classifier)[:, None].expand_as(inputs[0]).contiguous(),)

        torch.manual_seed(0)
        (attribution,) = explain((images,))
        results.values.setdefault("infidelity", {})[name] = (
            infidelity(
                score,
                disturb,
                images,
                attribution,
                additional_forward_args=(decision,),
                n_perturb_samples=DRAWS,
                normalize=True,
            )
            .detach()
            .cpu()
        )
        results.values.setdefault("sensitivity", {})[name] = (
            sensitivity_max(explain, images, perturb_radius=RADIUS, n_perturb_samples=DRAWS)
            .detach()
            .cpu()
        )
