"""Resident memory over 10,000 explanations: python benchmarks/memory.py.

The maps are asked for everything that panels and gallery need, batch by batch.
"""

import json
import resource
from functools import partial

import torch

from saliency_vae.distributions import KroneckerNormal
from saliency_vae.encoders import UNet, fold_batch_norm
from saliency_vae.explainer import Explainer


def main() -> None:
    """Print the peak of resident memory, in MiB, after every 2,000 explanations."""
    explainer = Explainer(fold_batch_norm(UNet([8, 24, 48, 64])), prior=partial(KroneckerNormal))
    explainer.eval().requires_grad_(False)
    peaks = {}
    for done in range(50, 10_001, 50):
        posterior = explainer(torch.rand(50, 3, 48, 48))
        posterior.inclusion_probability(0.1), posterior.topk_mask(0.1), posterior.confidence
        posterior.rsample((2,))
        if done % 2000 == 0:
            peaks[done] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    print(json.dumps({"peak_resident_mib": peaks}))


if __name__ == "__main__":
    main()
