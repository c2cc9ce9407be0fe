"""What an explainer's posterior is worth, on validation scenes of photographs.

python research/posterior_checks.py --photographs DIR

Posterior predictive checks and swap test of an evaluation, on validation images alone, each number
beside its controls. What they found is in docs/uncertainty.md.
"""

import argparse
from pathlib import Path

import torch
from refinement import scenes

from saliency_vae import load_explainer
from saliency_vae.baselines import CaptumMethod, VarGrad
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.resampling import Resampling
from saliency_vae.evaluation.uncertainty import (
    assess_posterior,
    check_posterior,
    explain_batches,
)
from saliency_vae.evaluation.wording import short

BATCH = 12


def main() -> None:
    """Print the verdicts, and one line for each value of a metric."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--explainer", default="universal", help="name or directory")
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--size", type=int, default=128)
    args = parser.parse_args()
    classifier = efficientnet_lite_classifier(name="lite0", image_size=args.size)
    with torch.no_grad():
        images, _ = scenes(args.photographs, classifier, args.size, args.images)
    explainer = load_explainer(args.explainer, classifier)
    batches: list[Batch] = [{"image": part} for part in images.split(BATCH)]
    explained = explain_batches(batches, explainer, classifier)
    methods = {
        "gradient": CaptumMethod("captum.attr.Saliency", reduce="max"),
        "vargrad": VarGrad(),
    }
    report = assess_posterior(
        check_posterior(explained, classifier, methods, samples=args.samples),
        resampling=Resampling(),
    )
    for line in (*(f"{v.judgement}: {v.text}" for v in report.verdicts), *report.left_out):
        print(line)
    for metric, by_name in report.intervals.items():
        print(metric_info(metric).title)
        for name, (mean, low, high) in by_name.items():
            print(f"  {name}: {short(float(mean))} [{short(float(low))}, {short(float(high))}]")


if __name__ == "__main__":
    main()
