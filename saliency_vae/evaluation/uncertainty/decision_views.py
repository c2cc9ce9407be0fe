"""The classifier's outputs on views: whether its decision stays, and how probable it is."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.evaluation.baseline_images import Baseline
from saliency_vae.metrics import view_logits


class ViewAnswers(NamedTuple):
    """The classifier's outputs on the views of images, (B, views) each.

    Attributes:
        kept: 1 where the decision is that for the whole image, else 0.
        probability: Probability of that decision, in [0, 1].
        log_odds: Log-odds of that decision, nats.
    """

    kept: Tensor
    probability: Tensor
    log_odds: Tensor


@dataclass(frozen=True)
class DecisionViews:
    """Images, the decision for each of them, and the baseline that replaces removed pixels.

    Attributes:
        classifier: Classifier of the views.
        images: Images in [0, 1], (B, 3, H, W).
        decision: Decision for the whole images, weights of the logits, (B, classes).
        baseline: Baseline images, (B, 3, H, W), or an imputation.
    """

    classifier: FrozenClassifier
    images: Tensor
    decision: Tensor
    baseline: Baseline

    def answers(self, masks: Tensor) -> ViewAnswers:
        """Classify the views through masks (B, views, H, W) bool; the result is on the CPU."""
        logits = view_logits(self.classifier, self.images, masks, self.baseline)
        decision = self.decision[:, None].expand_as(logits)
        return ViewAnswers(
            self.classifier.keeps_decision(logits, decision).float().cpu(),
            self.classifier.probability(logits, decision).cpu(),
            self.classifier.log_odds(logits, decision).cpu(),
        )

    def necessity(self, masks: Tensor) -> Tensor:
        """Drop in the decision's probability where masks (B, views, H, W) bool are replaced.

        Returns:
            Necessity, (B, views) in [-1, 1], on the CPU.
        """
        logits = self.classifier(self.images)
        whole = self.classifier.probability(logits, self.decision).cpu()
        return whole[:, None] - self.answers(~masks).probability
