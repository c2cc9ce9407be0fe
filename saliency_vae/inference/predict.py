"""Explaining a batch of images of one size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import INCLUSION_FRACTION, SaliencyPosterior
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.models import Explainer
from saliency_vae.perturbations import perturb
from saliency_vae.runtime.memory import is_out_of_memory
from saliency_vae.topk import hard_topk, num_kept
from saliency_vae.visualization import ClassifiedView, Explanation, InputImage, Sample


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """Settings that an explanation depends on.

    Attributes:
        fraction: Share of the pixels kept in the kept view, in (0, 1].
        refine_steps: Gradient steps on each explanation by itself, >= 0.
        samples: Number of maps drawn from each posterior, >= 0.
        seed: Seed of the samples and of the refinement's noise.
        target: Name or number of the class that is asked about; None for the decision.
    """

    fraction: float
    refine_steps: int = 0
    samples: int = 0
    seed: int = 0
    target: str | None = None


@dataclass(frozen=True)
class BatchExplainer:
    """Explains images of one size, whose classifier, explainer and baseline share a device.

    Attributes:
        explainer: Trained explainer.
        classifier: Classifier to explain.
        perturbation: Makes the baseline images of the kept views.
        settings: Settings of all explanations.
    """

    explainer: Explainer
    classifier: FrozenClassifier
    perturbation: nn.Module
    settings: ExplainSettings

    def __call__(self, inputs: Sequence[InputImage]) -> list[Explanation | BrokenImage]:
        """Explain images of one size, at least one.

        Returns:
            Explanation of each image. An image is broken instead if the classifier does not take
            its size, or if numbers of its explanation are not finite.
        """
        pixels = torch.stack([torch.from_numpy(source.pixels) for source in inputs])
        images = pixels.to(self.classifier.mean.device).float() / 255
        try:
            with torch.inference_mode():
                logits = self.classifier(images)
        except (RuntimeError, ValueError, AssertionError) as error:  # of somebody's own network
            if is_out_of_memory(error):
                raise
            height, width = images.shape[-2:]
            reason = f"Expected a size that the classifier takes. Found {height} x {width}: {error}"
            if self.classifier.preprocessing.crop_size is not None:  # no image has another size
                raise ValueError(reason) from error
            return [BrokenImage.because(source.name, reason) for source in inputs]
        return [
            explanation
            if explanation.is_finite()
            else BrokenImage(explanation.source.name, "Expected finite numbers. Found NaN or inf.")
            for explanation in self._explanations(inputs, images, logits)
        ]

    def _explanations(
        self, inputs: Sequence[InputImage], images: Tensor, logits: Tensor
    ) -> list[Explanation]:
        posterior, objective = self._infer(images)
        fraction = self.settings.fraction
        with torch.inference_mode():
            baseline = self.perturbation(images)
            kept_views = perturb(images, posterior.topk_mask(fraction), baseline)
            originals = self._classified(images, logits)
            kept = self._classified(kept_views, self.classifier(kept_views))
            inclusion = posterior.inclusion_probability(fraction)
            maps = torch.stack([posterior.mean, posterior.stddev, inclusion], dim=1).cpu()
            gallery_inclusion = posterior.inclusion_probability(INCLUSION_FRACTION).cpu()
            confidence = posterior.confidence.tolist()
            samples = self._samples(images, posterior, baseline)
            baseline = baseline.cpu()
        return [
            Explanation(
                source=source,
                original=originals[i],
                kept=kept[i],
                baseline=baseline[i],
                maps=maps[i],
                gallery_inclusion=gallery_inclusion[i],
                fraction=fraction,
                confidence=confidence[i],
                samples=samples[i],
                objective=None if objective is None else objective[i],
                target=self.settings.target,
            )
            for i, source in enumerate(inputs)
        ]

    def _infer(self, images: Tensor) -> tuple[SaliencyPosterior, Tensor | None]:
        """Infer the posterior and, if it is refined, the objective before and after, (B, 2)."""
        steps = self.settings.refine_steps
        if not steps:
            with torch.inference_mode():
                return self.explainer(images, self.settings.target), None
        refined = self.explainer.refine(
            images,
            self.classifier,
            target=self.settings.target,
            steps=steps,
            seed=self.settings.seed,
        )
        return refined.posterior, torch.stack([refined.before, refined.after], dim=1).cpu()

    def _classified(self, views: Tensor, logits: Tensor) -> list[ClassifiedView]:
        probabilities = self.classifier.probabilities(logits).cpu()
        predictions = self.classifier.top(logits)
        rows = zip(views.cpu(), probabilities, predictions, strict=True)
        return [ClassifiedView(*row) for row in rows]

    def _samples(
        self, images: Tensor, posterior: SaliencyPosterior, baseline: Tensor
    ) -> list[list[Sample]]:
        """Draw maps for each image, and classify their kept views."""
        if not self.settings.samples:
            return [[] for _ in images]
        drawn = draw_maps(posterior, self.settings.samples, self.settings.seed)
        scores = drawn.flatten(2)
        masks = hard_topk(scores, num_kept(self.settings.fraction, scores.shape[-1])).view_as(drawn)
        result: list[list[Sample]] = []
        for image, mask, base, maps in zip(images, masks, baseline, drawn.cpu(), strict=True):
            kept_views = perturb(image[None], mask, base[None])
            kept = self._classified(kept_views, self.classifier(kept_views))
            result.append([Sample(*pair) for pair in zip(maps, kept, strict=True)])
        return result


def draw_maps(posterior: SaliencyPosterior, number: int, seed: int) -> Tensor:
    """Draw maps for each image with the same noise, whatever else is in its batch: (B, n, h, w)."""
    device = posterior.mean.device
    return torch.stack(
        [
            alone.rsample((number,), generator=torch.Generator(device).manual_seed(seed))
            for alone in posterior.split()
        ]
    )
