"""Independent runs: explanations by the same objective, but not by the evaluated encoder."""

from collections.abc import Sequence

from torch import Tensor

from saliency_vae.baselines import Method
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.methods import ExplainerMethod
from saliency_vae.evaluation.sanity import same_classifier
from saliency_vae.models import Explainer, explain_without_training, load_explainer


class FromPrior:
    """An independent run: the explainer's objective, optimised image by image with no encoder.

    Args:
        explainer: Explainer whose objective, prior and posterior family are used.
        steps: Steps of the optimisation.
        seed: Seed of its noise.
    """

    def __init__(self, explainer: Explainer, *, steps: int, seed: int) -> None:
        self.explainer = explainer
        self.objective = explainer.objective(explainer.baseline())
        self.steps = steps
        self.seed = seed

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        images = batch["image"]
        signals = self.explainer.signals(images)
        mean: Tensor = explain_without_training(
            images,
            classifier,
            steps=self.steps,
            prior=self.explainer.prior(images, signals),
            family=self.explainer.posterior,
            objective=self.objective,
            target=None if signals is None else signals.target,
            seed=self.seed,
        ).posterior.mean
        return mean


def independent_runs(
    explainer: Explainer, *, number: int, steps: int, seed: int, ensemble: Sequence[str] = ()
) -> list[Method]:
    """Methods whose explanations do not depend on the training of the explainer's encoder.

    Args:
        explainer: Explainer to evaluate.
        number: Number of runs that start from the prior, each with its own noise.
        steps: Steps of each of these runs.
        seed: Seed of the first of these runs.
        ensemble: Directories of explainers that were trained with other seeds, each a run.

    Raises:
        ValueError: If an explainer of the ensemble explains another classifier.
    """
    runs: list[Method] = [
        FromPrior(explainer, steps=steps, seed=seed + run) for run in range(number)
    ]
    for directory in ensemble:
        other = load_explainer(directory)
        if not other.is_universal and not same_classifier(explainer, other):
            raise ValueError(
                f"Expected ensemble=[...] of explainers of the same classifier. Found {directory}."
            )
        runs.append(ExplainerMethod(other))
    return runs
