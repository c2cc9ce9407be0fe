"""Study of an importance-weighted objective (IWAE, Burda et al. 2016), by one short training each.

python research/importance_weighted.py --weights none reconstruction all

All train on the same digits with several maps of each image in a step. ``none`` takes the mean of
the maps' losses, as the package does. ``all`` weighs them by p(y | s) p(s) / q(s | x), where the
reconstruction counts as beta says, ``reconstruction`` by p(y | s) alone beside the exact KL. Then
the posteriors are judged by posterior predictive checks on validation digits. What was found is in
docs/uncertainty.md.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import SaliencyPosterior, SaliencyPrior
from saliency_vae.evaluation.metric_info import metric_info
from saliency_vae.evaluation.uncertainty import assess_posterior, check_posterior, explain_batches
from saliency_vae.objective import LossTerms, MaskedViews, Objective
from saliency_vae.topk import SoftTopK
from saliency_vae.training.run import prepare

CONF = Path(__file__).parents[1] / "conf"
KINDS = ("none", "reconstruction", "all")


class Remembering(nn.Module):
    """A top-k that keeps the maps which it was last given.

    Args:
        topk: The top-k.
    """

    def __init__(self, topk: SoftTopK) -> None:
        super().__init__()
        self.topk = topk
        self.maps = torch.empty(0)

    def forward(self, maps: Tensor, **settings: Any) -> Tensor:
        """Masks of maps (B, H, W)."""
        self.maps = maps
        masks: Tensor = self.topk(maps, **settings)
        return masks

    def annealed(self, progress: float) -> float:
        """Temperature of the top-k."""
        return self.topk.annealed(progress)


@dataclass(frozen=True)
class ImportanceWeighted(Objective):
    """Objective whose several samples of an image are weighed by how well they do.

    Attributes:
        weights: By what they are weighed, one of ``KINDS``.
    """

    weights: str = "none"

    def __call__(
        self,
        views: MaskedViews,
        posterior: SaliencyPosterior,
        prior: SaliencyPrior,
        classifier: FrozenClassifier,
    ) -> LossTerms:
        """Compute the loss of masked views."""
        terms = super().__call__(views, posterior, prior, classifier)
        losses = self._reconstruction(views, classifier).view(-1, *posterior.batch_shape)
        if self.weights == "none" or len(losses) == 1:
            return terms
        rest = terms.loss - terms.reconstruction  # divergence, complement and penalty
        scale = 1.0
        if self.weights == "all":
            maps = self.topk.maps.view(*losses.shape, *posterior.event_shape)  # type: ignore[attr-defined]
            scale = posterior.event_shape.numel() / self.beta
            ratio = posterior.log_prob(maps) - prior.log_prob(maps)
            losses = losses + ratio / scale
            rest = rest - self.beta * terms.kl
        bound = -(torch.logsumexp(-scale * losses, 0) - torch.tensor(len(losses)).log()) / scale
        return replace(terms, loss=bound + rest)


def train(kind: str, overrides: list[str], run: Path) -> Any:
    """Train an explainer with one kind of weights; returns its module."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", ["experiment=cluttered_digits", "logger=csv", *overrides])
    config: Any = OmegaConf.to_container(composed, resolve=True)
    config |= {"callbacks": {}, "logger": {}}
    config["trainer"] |= {"default_root_dir": str(run), "enable_checkpointing": False}
    torch.manual_seed(0)
    trainer, module, data = prepare(config)
    settings = {**vars(module.objective), "topk": Remembering(module.objective.topk)}
    module.objective = ImportanceWeighted(**settings, weights=kind)
    trainer.fit(module, datamodule=data)
    module.eval()
    return module, data


def main() -> None:
    """Print the numbers of the posterior predictive checks for each kind of weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4, help="maps of each image in a step")
    parser.add_argument("overrides", nargs="*", help="settings of the training")
    args = parser.parse_args()
    for kind in args.weights:
        with TemporaryDirectory() as run:
            module, data = train(kind, [f"samples={args.samples}", *args.overrides], Path(run))
        images = torch.stack([data.val_set[index]["image"] for index in range(args.images)])
        batches: Any = [{"image": part} for part in (images.float() / 255).split(16)]
        explained = explain_batches(batches, module.explainer, module.classifier)
        report = assess_posterior(check_posterior(explained, module.classifier, {}), seed=0)
        print(kind)
        for line in (*(f"{v.judgement}: {v.text}" for v in report.verdicts), *report.left_out):
            print(f"  {line}")
        for metric, by_name in report.intervals.items():
            print(f"  {metric_info(metric).title}")
            for name, (mean, low, high) in by_name.items():
                print(f"    {name}: {mean:.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
