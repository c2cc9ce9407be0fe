"""What the page computes for a photograph, without any widget."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.baselines import CaptumMethod, GradCAM, Method
from saliency_vae.classifiers import FrozenClassifier, class_target
from saliency_vae.data import load_rgb
from saliency_vae.models import Explainer
from saliency_vae.perturbations import perturb
from saliency_vae.topk import hard_topk, num_kept
from saliency_vae.visualization import Explanation, Measurement

_SMOOTHGRAD = {
    "nt_type": "smoothgrad",
    "nt_samples": 25,
    "stdevs": 0.15,
    "nt_samples_batch_size": 5,
}


@dataclass(frozen=True)
class Comparison:
    """The map of another method for the same question.

    Attributes:
        method: Name of the method.
        map: Its saliency map, (h, w); None if it cannot explain this classifier.
        measured: The class on the views of this map; None likewise.
        reason: Why there is no map, in one line; empty if there is one.
    """

    method: str
    map: Tensor | None = None
    measured: Measurement | None = None
    reason: str = ""


class Answers:
    """Answers a person's questions about photographs with one explainer and its classifier.

    Args:
        explainer: Explainer with the classifier that it explains attached.
        samples: Number of alternative maps drawn for each photograph.
        fraction: Share of the pixels that the kept view shows at first, in (0, 1].
    """

    def __init__(self, explainer: Explainer, *, samples: int = 4, fraction: float = 0.1) -> None:
        self.explainer = explainer
        self.samples = samples
        self.fraction = fraction

    @property
    def classifier(self) -> FrozenClassifier:
        """Classifier that is explained."""
        return self.explainer.classifier

    def explain(self, photo: str, target: int | None, fraction: float) -> Explanation:
        """Explain a photograph.

        Args:
            photo: Image file.
            target: Number of the class that is asked about; None for the decision.
            fraction: Share of the pixels kept in the kept view, in (0, 1].

        Raises:
            OSError: If the file is no image.
            ValueError: If the image cannot be explained.
        """
        return self.explainer.explain(
            load_rgb(photo), target, fraction=fraction, samples=self.samples
        )

    def compare(
        self, explanation: Explanation, target: int | None, fraction: float
    ) -> list[Comparison]:
        """Explain the same photograph by SmoothGrad (25 passes) and Grad-CAM (1 pass)."""
        found = []
        image = explanation.original.image[None].to(self.classifier.mean.device)
        for name, method in _methods().items():
            try:
                asked = _weights(self.classifier, self.classifier(image), target)
                values = method({"image": image, "target": asked}, self.classifier)[0].cpu()
            except ValueError as error:  # a method that does not fit the classifier says so
                found.append(Comparison(name, reason=str(error)))
                continue
            measured = self._measure(explanation, values, target, fraction)
            found.append(Comparison(name, values, measured))
        return found

    @torch.inference_mode()
    def _measure(
        self, explanation: Explanation, scores: Tensor, target: int | None, fraction: float
    ) -> Measurement:
        """Measure what a map is worth to the classifier; three passes."""
        classifier, image = self.classifier, explanation.original.image
        mask = kept_pixels(scores, fraction)
        both = torch.stack([mask, ~mask]).to(image)
        views = perturb(image.expand(2, -1, -1, -1), both, explanation.baseline[None])
        logits = classifier(torch.cat([image[None], views]).to(classifier.mean.device))
        weights = _weights(classifier, logits[:1], target).expand_as(logits)
        on_image, on_kept, on_left_out = classifier.probability(logits, weights).tolist()
        decided = classifier.decide(logits[:1]).expand_as(logits)
        _, stays, stays_without = classifier.keeps_decision(logits, decided).tolist()
        return Measurement(
            fraction, on_image, on_kept, on_left_out, stays, decision_lost=not stays_without
        )


def kept_pixels(scores: Tensor, fraction: float) -> Tensor:
    """Mask of the most salient pixels of a map (h, w): (h, w) bool."""
    flat = scores.flatten()[None]
    return hard_topk(flat, num_kept(fraction, flat.shape[1])).view(scores.shape) > 0


def _methods() -> Mapping[str, Method]:
    """Methods to compare with; SmoothGrad where Captum is installed."""
    methods: dict[str, Method] = {"Grad-CAM": GradCAM()}
    try:
        smoothgrad = CaptumMethod("captum.attr.Saliency", noise_tunnel=dict(_SMOOTHGRAD))
    except ValueError:
        return methods
    return {"SmoothGrad": smoothgrad, **methods}


def _weights(classifier: FrozenClassifier, logits: Tensor, target: int | None) -> Tensor:
    """Weights of the logits (B, classes) that are asked about."""
    if target is None:
        return classifier.decide(logits)
    classes = torch.full((len(logits),), target, device=logits.device)
    return class_target(classes, logits)
