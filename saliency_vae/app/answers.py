"""What the page computes for a photograph, without any widget."""

from dataclasses import dataclass

import torch
from torch import Tensor

from saliency_vae.baselines import GradCAM, Method, SmoothGrad
from saliency_vae.classifiers import FrozenClassifier, as_target
from saliency_vae.data import load_rgb
from saliency_vae.inference.measure import Question, Views
from saliency_vae.models import Explainer
from saliency_vae.topk import top_pixels
from saliency_vae.visualization import Explanation, Measurement

_METHODS: dict[str, Method] = {"SmoothGrad": SmoothGrad(), "Grad-CAM": GradCAM()}


@dataclass(frozen=True)
class OtherMap:
    """The map of another method for the same image and target.

    Attributes:
        method: Name of the method.
        map: Its saliency map, (h, w); None if it cannot explain this classifier.
        measured: Measurement of the target on the views of this map; None likewise.
        reason: Why there is no map, in one line; empty if there is one.
    """

    method: str
    map: Tensor | None = None
    measured: Measurement | None = None
    reason: str = ""


class PageAnswers:
    """Explains a user's photographs with one explainer and its classifier.

    Args:
        explainer: Explainer with the classifier that it explains attached.
        samples: Number of alternative maps drawn for each photograph.
    """

    def __init__(self, explainer: Explainer, *, samples: int = 4) -> None:
        self.explainer = explainer
        self.samples = samples

    @property
    def classifier(self) -> FrozenClassifier:
        """Classifier that is explained."""
        return self.explainer.classifier

    def explain(self, photo: str, target: int | None, fraction: float) -> Explanation:
        """Explain a photograph.

        Args:
            photo: Image file.
            target: Index of the target class; None for the decision.
            fraction: Share of the pixels kept in the kept view, in (0, 1].

        Raises:
            OSError: If the file is not an image.
            ValueError: If the image cannot be explained.
        """
        return self.explainer.explain(
            load_rgb(photo), target, fraction=fraction, samples=self.samples
        )

    def compare(self, explanation: Explanation, target: int | None) -> list[OtherMap]:
        """Explain the same photograph by SmoothGrad (25 passes) and Grad-CAM (1 pass).

        Args:
            explanation: Explanation to compare with; the same fraction of the pixels is kept.
            target: Index of its target class; None for the decision.
        """
        found, fraction = [], explanation.fraction
        classifier = self.classifier
        image, baseline = (
            one[None].to(classifier.mean.device)
            for one in (explanation.original.image, explanation.baseline)
        )
        with torch.no_grad():
            question = Question(classifier, classifier(image), as_target(target))
        asked = question.weights()
        assert asked is not None  # a class, or the decision
        for name, method in _METHODS.items():
            try:
                values = method({"image": image, "target": asked}, classifier)[0]
            except ValueError as error:  # a method that does not fit the classifier says so
                found.append(OtherMap(name, reason=str(error)))
                continue
            views = Views(classifier, image, baseline, top_pixels(values, fraction)[None, None])
            with torch.no_grad():
                ((measured,),) = question.measure(*views.classify(), [fraction])
            found.append(OtherMap(name, values.cpu(), measured))
        return found
