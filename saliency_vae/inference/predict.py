"""Explaining a batch of images of one size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier, WrongOutputError, as_logits
from saliency_vae.distributions import SaliencyPosterior
from saliency_vae.inference.alternatives import DRAWS, choose_alternatives
from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.measure import Question, Views, target_name
from saliency_vae.metrics import view_logits
from saliency_vae.models import Explainer
from saliency_vae.models.images import RANGE_MARGIN
from saliency_vae.perturbations import is_fixed
from saliency_vae.runtime.memory import is_out_of_memory
from saliency_vae.runtime.random import seeded
from saliency_vae.runtime.text import described
from saliency_vae.topk import top_pixels
from saliency_vae.visualization import (
    FRACTIONS,
    ClassifiedView,
    Explanation,
    InputImage,
    Measurement,
    Sample,
)

# Most pixels that are explained at once on a CPU: the activations of more would take memory.
_PIXELS_ON_CPU = 4 * 224**2


@dataclass(frozen=True, kw_only=True)
class ExplainSettings:
    """Settings that an explanation depends on.

    Attributes:
        fraction: Share of the pixels kept in the kept view, in (0, 1].
        refine_steps: Gradient steps that refine each explanation by itself, >= 0.
        samples: Number of alternative maps from each posterior, >= 0.
        seed: Seed of the samples, of the refinement's noise and of random baseline images.
        target: Name or index of the target class, or a function of the logits; None for the
            decision.
        curve: Measure at all ``FRACTIONS`` too: 14 or 16 views of an image to classify, not 2.
    """

    fraction: float
    refine_steps: int = 0
    samples: int = 0
    seed: int = 0
    target: object = None
    curve: bool = True


@dataclass(frozen=True)
class BatchExplainer:
    """Explains images of one size; classifier, explainer and baseline are on one device.

    Attributes:
        explainer: Trained explainer.
        classifier: Classifier to explain.
        perturbation: Makes the baseline images of the kept and left-out views.
        settings: Settings of all explanations.
    """

    explainer: Explainer
    classifier: FrozenClassifier
    perturbation: nn.Module
    settings: ExplainSettings

    def __call__(self, inputs: Sequence[InputImage]) -> list[Explanation | BrokenImage]:
        """Explain one or more images of one size; on a CPU, a few at a time.

        Returns:
            Explanation of each image, or a BrokenImage if the classifier does not take its size or
            its explanation is not finite.
        """
        number = len(inputs)
        if self.classifier.mean.device.type == "cpu":
            height, width = inputs[0].pixels.shape[1:]
            number = max(1, _PIXELS_ON_CPU // (height * width))
        pieces = [inputs[start : start + number] for start in range(0, len(inputs), number)]
        return [result for piece in pieces for result in self._explain(piece)]

    def _explain(self, inputs: Sequence[InputImage]) -> list[Explanation | BrokenImage]:
        """Explain images in one pass."""
        pixels = torch.stack([torch.from_numpy(source.pixels) for source in inputs])
        images = pixels.to(self.classifier.mean.device).float() / 255
        self.classifier.prefer_channels_last(images)
        try:
            with torch.no_grad():
                logits = as_logits(self.classifier(images), self.classifier.output, len(images))
        except WrongOutputError:
            raise
        except (RuntimeError, ValueError, AssertionError) as error:  # of a user's own network
            if is_out_of_memory(error):
                raise
            if "channels" in str(error):  # torch's message, the same for all images
                raise ValueError(
                    "Expected a classifier of RGB images: wrap a network of other channels in a "
                    f"module that converts them. Found {described(error)}."
                ) from error
            height, width = images.shape[-2:]
            reason = f"Expected a size that the classifier takes. Found {height} x {width}: {error}"
            if self.classifier.preprocessing.crop_size is not None:  # all images have it
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
        with torch.no_grad():
            baseline = self._baseline(inputs, images)
            drawn, stay = self._alternatives(posterior, images, baseline, logits)
            masks = self._masks(posterior, drawn)
            views = Views(self.classifier, images, baseline, masks)
            kept, left_out, measured = self._measured(views, logits)
            originals = self._classified(images, logits)
            inclusion = posterior.inclusion_probability(fraction)
            maps = torch.stack([posterior.mean, posterior.stddev, inclusion], dim=1).cpu()
            baseline, scores = baseline.cpu(), drawn.cpu()
        confidence, out_of_depth = self._estimated(posterior)
        of_mean = len(self._fractions)
        return [
            Explanation(
                source=source,
                original=originals[i],
                kept=kept[0][i],
                left_out=left_out[i],
                baseline=baseline[i],
                maps=maps[i],
                measured=measured[i][0],
                curve=sorted(measured[i][:of_mean], key=lambda one: one.fraction),
                estimated_confidence=confidence[i],
                out_of_depth=out_of_depth[i],
                drawn=[
                    Sample(scores[i, n], kept[1 + n][i], measured[i][of_mean + n])
                    for n in range(self.settings.samples)
                ],
                samples_stay=stay[i],
                objective=None if objective is None else objective[i],
                target=target_name(self.settings.target, self.classifier),
            )
            for i, source in enumerate(inputs)
        ]

    def _measured(
        self, views: Views, logits: Tensor
    ) -> tuple[list[list[ClassifiedView]], list[ClassifiedView], list[list[Measurement]]]:
        """Classify and measure the views of the mean at each fraction, and of each drawn map.

        Returns:
            Kept views of the mean and of each drawn map, for each image; left-out view of the mean
            for each image, all at the configured fraction; measurements of each image.
        """
        kept_logits, left_out_logits = views.classify()
        question = Question(self.classifier, logits, self.explainer.target(self.settings.target))
        samples = range(len(self._fractions), views.masks.shape[1])
        fractions = [*self._fractions, *[self.settings.fraction] * len(samples)]
        kept = [
            self._classified(views.kept(index), kept_logits[:, index]) for index in (0, *samples)
        ]
        left_out = self._classified(views.left_out(0), left_out_logits[:, 0])
        return kept, left_out, question.measure(kept_logits, left_out_logits, fractions)

    def _baseline(self, inputs: Sequence[InputImage], images: Tensor) -> Tensor:
        """Make baseline images, (B, 3, h, w), each independent of the rest of its batch.

        A random baseline is drawn for each image by itself, seeded by the seed and the pixels.
        """
        if is_fixed(self.perturbation):
            return _checked_baseline(self.perturbation(images), images)
        made = []
        for source, image in zip(inputs, images, strict=True):
            with seeded((self.settings.seed + source.checksum) % 2**63, images.device):
                alone = image[None]
                made.append(_checked_baseline(self.perturbation(alone), alone))
        return torch.cat(made)

    @property
    def _fractions(self) -> list[float]:
        """Fractions of the pixels at which the mean is measured, the configured one first."""
        fraction = self.settings.fraction
        others = FRACTIONS if self.settings.curve else ()
        return [fraction, *(other for other in others if other != fraction)]

    def _alternatives(
        self, posterior: SaliencyPosterior, images: Tensor, baseline: Tensor, logits: Tensor
    ) -> tuple[Tensor, Sequence[float | None]]:
        """Draw maps from the posterior, and choose alternatives to the mean among them.

        Those that keep the decision come first, unless another target is asked about, of which
        their views need not keep the decision.

        Returns:
            The alternatives, (B, samples, h, w); share of all maps drawn that keep the decision,
            for each image, None if none is drawn.
        """
        number, fraction = self.settings.samples, self.settings.fraction
        if not number:
            none = posterior.mean.new_empty(len(images), 0, *posterior.event_shape)
            return none, [None] * len(images)
        drawn = draw_maps(posterior, DRAWS * number, self.settings.seed)
        kept = top_pixels(drawn, fraction)
        question = Question(self.classifier, logits, None)
        stays = question.keeps_decision(view_logits(self.classifier, images, kept, baseline))
        wanted = stays if self.settings.target is None else torch.ones_like(stays)
        chosen = choose_alternatives(posterior.topk_mask(fraction), kept, wanted, number)
        rows = torch.arange(len(drawn), device=drawn.device)[:, None]
        return drawn[rows, chosen], stays.float().mean(1).tolist()

    def _masks(self, posterior: SaliencyPosterior, drawn: Tensor) -> Tensor:
        """Top pixels of the mean at each fraction, then of each drawn map, (B, maps, h, w) bool."""
        of_mean = [posterior.topk_mask(fraction) for fraction in self._fractions]
        of_drawn = top_pixels(drawn, self.settings.fraction)
        return torch.cat([torch.stack(of_mean, dim=1), of_drawn], dim=1)

    def _estimated(
        self, posterior: SaliencyPosterior
    ) -> tuple[Sequence[float | None], Sequence[bool | None]]:
        """Estimated confidence of each image, and whether it is out of depth; None if unknown."""
        network, unknown = self.explainer.confidence, [None] * len(posterior.mean)
        if network is None:
            return unknown, unknown
        with torch.no_grad():
            confidence = posterior.confidence.tolist()
            return (
                confidence,
                posterior.out_of_depth.tolist() if network.depth.is_known else unknown,
            )

    def _infer(self, images: Tensor) -> tuple[SaliencyPosterior, Tensor | None]:
        """Infer the posterior and, if refined, the objective before and after that, (B, 2)."""
        steps = self.settings.refine_steps
        if not steps:
            with torch.no_grad():
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


def _checked_baseline(baseline: object, images: Tensor) -> Tensor:
    """Check that a user's function has made a baseline image in [0, 1] of each image.

    Values slightly outside [0, 1], such as those of noise, are clipped.
    """
    if not isinstance(baseline, Tensor) or baseline.shape != images.shape:
        found = tuple(baseline.shape) if isinstance(baseline, Tensor) else type(baseline).__name__
        raise ValueError(
            f"Expected baseline to make baseline images {tuple(images.shape)}. Found {found}."
        )
    low, high = baseline.detach().aminmax()
    if not (low >= -RANGE_MARGIN and high <= 1 + RANGE_MARGIN):  # NaN too
        raise ValueError(
            "Expected baseline to make baseline images in [0, 1]. "
            f"Found values from {low:.3g} to {high:.3g}."
        )
    return baseline.clamp(0, 1)


def draw_maps(posterior: SaliencyPosterior, number: int, seed: int) -> Tensor:
    """Draw maps for each image with the same noise, whatever else is in its batch: (B, n, h, w)."""
    device = posterior.mean.device
    return torch.stack(
        [
            alone.rsample((number,), generator=torch.Generator(device).manual_seed(seed))
            for alone in posterior.split()
        ]
    )
