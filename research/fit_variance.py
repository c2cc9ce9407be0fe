"""Fit the variance of the shipped explainer to how much the classifier minds, on training scenes.

python research/fit_variance.py --photographs DIR --out DIR

The means stay as they are. Patches of training scenes and digits are swapped in and out of the kept
view, and a linear map of the networks' last features is fitted to how little the log-odds change:
new rows of the last layer of each network. What it is worth is measured on other scenes by
research/posterior_variants.py and research/posterior_checks.py; the results are in
docs/uncertainty.md.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from posterior_variants import DIGITS
from torch import Tensor

from saliency_vae import FrozenClassifier, load_explainer
from saliency_vae.classifiers import efficientnet_lite_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.cutouts import CutoutsData
from saliency_vae.data.digit_images import ClutteredDigits
from saliency_vae.data.scene_selection import select
from saliency_vae.evaluation.uncertainty import explain_batches
from saliency_vae.evaluation.uncertainty.swaps import swap_patches
from saliency_vae.metrics import mean_interval, spearman
from saliency_vae.metrics.ranking import average_rank
from saliency_vae.models import Explainer
from saliency_vae.models.ensemble import Ensemble
from saliency_vae.models.serialization import write_directory
from saliency_vae.models.universal_encoder import UniversalUNet

BATCH = 24
BASELINES = ("blur", "mean", "noise")  # those of the training, which the batches cycle through


def members(explainer: Explainer) -> Ensemble:
    """The networks of the explainer."""
    assert isinstance(explainer.encoder, UniversalUNet)
    assert isinstance(explainer.encoder.unet, Ensemble)
    return explainer.encoder.unet


class Features:
    """Records the input features of each network's last layer in its latest call."""

    def __init__(self, explainer: Explainer) -> None:
        self.seen: list[Tensor] = []
        for member in members(explainer):
            member.head.register_forward_pre_hook(lambda _, inputs: self.seen.append(inputs[0]))

    def take(self) -> Tensor:
        """Take the features of the images encoded last, (B, channels of all networks, H, W)."""
        found, self.seen = torch.cat(self.seen, dim=1), []
        return found


def training_images(
    photographs: Path, scenes: int, digits: int
) -> Iterator[tuple[FrozenClassifier, Tensor]]:
    """Batches of training images with their classifiers."""
    classifier = efficientnet_lite_classifier(name="lite0", image_size=128)
    data = CutoutsData(
        str(photographs / "cutouts"), str(photographs / "backgrounds"), 128, num_workers=0
    )
    data.setup("fit")
    with torch.no_grad():
        chosen = select(data.train_set, lambda x: classifier.probabilities(classifier(x)), scenes)
    data.train_set.indices = chosen.indices
    for start in range(0, scenes, BATCH):
        items = [data.train_set[index] for index in range(start, min(start + BATCH, scenes))]
        yield classifier, torch.stack([item["image"] for item in items]).float() / 255
    of_digits = cluttered_digits_classifier(DIGITS)
    for part in ClutteredDigits("train", digits).images.split(BATCH) if digits else ():
        yield of_digits, part.float() / 255


def gather(explainer: Explainer, args: argparse.Namespace) -> dict[str, Tensor]:
    """Features (N, n, channels) of swapped patches, minus their effect ("calm"), and saliency."""
    features, found = Features(explainer), list[tuple[Tensor, Tensor, Tensor]]()
    batches = training_images(args.photographs, args.scenes, args.digits)
    for number, (classifier, images) in enumerate(batches):
        explainer.attach_classifier(classifier, force=True)
        explained = explain_batches([{"image": images}], explainer, classifier)
        channels = {str(c): each for c, each in enumerate(features.take().unbind(1))}
        baseline = BASELINES[number % len(BASELINES)]
        swaps = swap_patches(explained, classifier, baseline, [channels], seed=number)
        print(f"batch {number}, {baseline}: {swaps and swaps['fraction']}", flush=True)
        if swaps is not None:
            values = swaps["uncertainties"]
            of_patches = torch.stack([values[name] for name in channels], dim=-1)
            found.append((of_patches, -swaps["effect"], -values["lack of saliency"]))
    of_patches, calm, saliency = map(torch.cat, zip(*found, strict=True))
    return {"features": of_patches, "calm": calm, "saliency": saliency}


def fitted(features: Tensor, calm: Tensor, ridge: float) -> Tensor:
    """Fit weights (channels,) that map features to the rank of each image's patches by calm."""
    wanted = average_rank(calm) / calm.shape[1]
    x = (features - features.mean(1, keepdim=True)).flatten(0, 1).double()
    y = (wanted - wanted.mean(1, keepdim=True)).flatten()
    spread = x.std(0)
    x = x / spread
    system = x.T @ x + ridge * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.linalg.solve(system, x.T @ y) / spread


def with_rows(
    explainer: Explainer, weights: Tensor, contrast: float, spread: float
) -> dict[str, Tensor]:
    """Explainer state with new log-variance rows in the last layers, only at kernel centres."""
    state = {name: value.clone() for name, value in explainer.state_dict().items()}
    networks = members(explainer)
    for index, part in enumerate(weights.float().chunk(len(networks))):
        prefix = f"encoder.unet.{index}.head"
        row = torch.zeros_like(state[f"{prefix}.weight"][1])
        row[:, 1, 1] = 2 * contrast * len(networks) * part
        state[f"{prefix}.weight"][1] = row
        state[f"{prefix}.bias"][1] = spread
    return state


def main() -> None:
    """Gather, fit, and write the explainer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--explainer", default="universal", help="name or directory")
    parser.add_argument("--scenes", type=int, default=288)
    parser.add_argument("--digits", type=int, default=288)
    parser.add_argument("--ridge", type=float, default=0.03)
    parser.add_argument("--contrast", type=float, default=1.0, help="spread of log-deviations")
    parser.add_argument("--spread", type=float, default=0.0, help="log-variance in the middle")
    args = parser.parse_args()
    explainer = load_explainer(args.explainer)
    file = args.out / "swaps.pt"
    if not file.exists():
        args.out.mkdir(parents=True, exist_ok=True)
        torch.save(gather(explainer, args), file)
    found = torch.load(file, weights_only=True)
    features, calm, saliency = found["features"], found["calm"], found["saliency"]
    even, odd = features[::2], features[1::2]
    for name, values in (
        ("lack of saliency", -saliency[1::2]),
        ("fitted on the other half", odd.double() @ fitted(even, calm[::2], args.ridge)),
    ):
        mean, low, high = map(float, mean_interval(spearman(values, calm[1::2])))
        print(f"{name}: {mean:.3f} [{low:.3f}, {high:.3f}]")
    weights = fitted(features, calm, args.ridge)
    score = features.double() @ weights
    weights = weights / score.std(1).mean()
    middle = args.spread - 2 * args.contrast * float((score / score.std(1).mean()).mean())
    state = with_rows(explainer, weights, args.contrast, middle)
    config = replace(explainer.config, metrics={})
    write_directory(args.out / "explainer", config, {k: v.half() for k, v in state.items()}, {})


if __name__ == "__main__":
    main()
