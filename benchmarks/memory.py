"""Resident memory over 10,000 explanations: it must not grow.

Everything that panels and gallery need is computed, batch by batch.

python benchmarks/memory.py [--quick]
"""

import resource
from functools import partial

import torch
from timing import Report, Target, arguments

from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import ConfidenceNetwork, Explainer, UNet, fold_batch_norm

BATCH = 50


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    explainer = Explainer(
        fold_batch_norm(UNet([8, 24, 48, 64])),
        prior=partial(KroneckerNormal),
        confidence=ConfidenceNetwork(10),
    )
    explainer.eval().requires_grad_(False).to(options.device)
    number, size = (2 * BATCH, 16) if options.quick else (10_000, 48)
    rows = []
    for done in range(BATCH, number + 1, BATCH):
        posterior = explainer(torch.rand(BATCH, 3, size, size, device=options.device))
        posterior.inclusion_probability(0.1), posterior.topk_mask(0.1), posterior.confidence
        posterior.rsample((2,))
        if done % (number // 5) == 0 or done == BATCH:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append({"explanations": str(done), "peak resident MiB": peak})
    report = Report("memory", "Memory of many explanations", options.device, options.quick)
    report.tables[f"{size}x{size}, batch {BATCH}"] = rows
    grown = rows[-1]["peak resident MiB"] / rows[-2]["peak resident MiB"]
    report.targets = [Target("last / last but one, resident memory", grown, at_most=1.02)]
    report.save(options.output)


if __name__ == "__main__":
    main()
