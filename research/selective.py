"""Study of which measured sufficiency tells the explanations that are better to withhold.

python research/selective.py --photographs DIR
python research/selective.py

Sufficiency is measured over a blur; explanations are judged by their insertion over in-painting and
ROAD, which neither training nor the sufficiency uses. Validation images; without photographs,
digits. The table of all that was tried is in docs/uncertainty.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from refinement import scenes
from torch import Tensor

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.evaluation.uncertainty.images import entropy
from saliency_vae.inference.measure import Question, Views
from saliency_vae.metrics import (
    InPainting,
    NoisyLinearImputation,
    insertion_curve,
    selective_curve,
    statistic_interval,
)
from saliency_vae.metrics.insertion_deletion import area_under_curve
from saliency_vae.models import Explainer
from saliency_vae.perturbations import blurred
from saliency_vae.topk import top_pixels
from saliency_vae.visualization import FRACTIONS

BATCH, STEPS = 12, 16
WITHHELD = (0.1, 0.2, 0.3)
DIGITS = "outputs/classifiers/digits_48px_16000x5_seed0.safetensors"


@torch.no_grad()
def measured(
    explainer: Explainer, classifier: FrozenClassifier, images: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Uncertainties of the explanations of a batch, and their insertion AUC, (B,) each."""
    mean, logits = explainer(images).mean, classifier(images)
    masks = torch.stack([top_pixels(mean, fraction) for fraction in FRACTIONS], dim=1)
    kept, left_out = Views(classifier, images, blurred(images), masks).classify()
    question = Question(classifier, logits, None)
    whole, on_kept = question.values(logits[:, None]), question.values(kept)
    stays, necessity = question.keeps_decision(kept), whole - question.values(left_out)
    uncertainties = {
        "entropy": entropy(classifier.probabilities(logits), independent=False),
        "1 - probability": 1 - whole[:, 0],
        "mean sufficiency": 1 - on_kept.mean(1),
        "mean sufficiency and necessity": -(on_kept + necessity).mean(1),
        "share of fractions that keep the decision": -stays.float().mean(1),
    }
    for index, fraction in enumerate(FRACTIONS):
        uncertainties[f"sufficiency at {fraction:.0%}"] = 1 - on_kept[:, index]
    step = -(-mean[0].numel() // STEPS)
    judged = {}
    for name, imputation in (("in-painting", InPainting()), ("ROAD", NoisyLinearImputation())):
        curve = insertion_curve(classifier, images, mean, imputation, step=step, batch_size=48)
        judged[name] = area_under_curve(curve)
    return uncertainties, judged


def line(name: str, values: Tensor, uncertainty: Tensor, entropys: Tensor) -> str:
    """Mean of the values not withheld, for each share withheld, and its gain over entropy."""
    means, gains = [], []
    for share in WITHHELD:

        def left(images: Tensor, by: Tensor, share: float = share) -> Tensor:
            return selective_curve(values[images], by[images], (share,))[0]

        def gain(images: Tensor, left: Callable[..., Tensor] = left) -> Tensor:
            return left(images, uncertainty) - left(images, entropys)

        means.append(f"{left(torch.arange(len(values)), uncertainty):.3f}")
        found = statistic_interval(gain, len(values))
        gains.append("{:+.3f} [{:+.3f}, {:+.3f}]".format(*map(float, found)))
    return f"  {name}: {' / '.join(means)}; {', '.join(gains)}"


def main() -> None:
    """Print the insertion AUC that is left with each uncertainty, and its gain over entropy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="directory of cutouts and backgrounds")
    parser.add_argument("--name", default="lite0", help="network for photographs")
    parser.add_argument("--size", type=int, default=128, help="side of the scenes")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--digits", default=DIGITS, help="file of the digit classifier")
    args = parser.parse_args()
    if args.photographs is None:
        classifier = cluttered_digits_classifier(args.digits)
        images = ClutteredDigits("val", args.images).images.float() / 255
    else:
        classifier = efficientnet_lite_classifier(args.name, args.size)
        images, _ = scenes(args.photographs, classifier, args.size, args.images)
    explainer = load_explainer("universal", classifier=classifier)
    parts = [measured(explainer, classifier, batch) for batch in images.split(BATCH)]
    uncertainties, judged = (
        {name: torch.cat([part[side][name] for part in parts]) for name in parts[0][side]}
        for side in (0, 1)
    )
    for name, values in judged.items():
        print(f"insertion over {name}, none withheld: {values.mean():.3f}")
        for kind, uncertainty in uncertainties.items():
            print(line(kind, values, uncertainty, uncertainties["entropy"]), flush=True)


if __name__ == "__main__":
    main()
