"""The one number for each image that a method explains: how strongly its decision was taken."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier


@torch.no_grad()
def decide(images: Tensor, classifier: FrozenClassifier) -> Tensor:
    """Weigh the logits so that their weighted sum speaks for the classifier's own decision.

    Args:
        images: In [0, 1], (B, 3, H, W).
        classifier: Decides for the class of highest probability; a single logit for its sign.

    Returns:
        Weights (B, classes): one-hot; for a single logit 1 or -1.
    """
    logits = classifier(images)
    if logits.shape[1] == 1:
        return torch.where(logits < 0, -1.0, 1.0)
    return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


class DecisionScore(nn.Module):
    """Logit of a decision.

    Args:
        classifier: Whose decision it is.
    """

    def __init__(self, classifier: FrozenClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor, decision: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for decisions (B, classes), see :func:`decide`: (B,)."""
        logits: Tensor = self.classifier(images)
        return (logits * decision).sum(1)


class DecisionProbability(DecisionScore):
    """Probability of a decision."""

    def forward(self, images: Tensor, decision: Tensor) -> Tensor:
        """Score images (B, 3, H, W) for decisions (B, classes): (B,), in [0, 1]."""
        logits: Tensor = self.classifier(images)
        score = (logits * decision).sum(1)
        if self.classifier.output == "sigmoid":
            return score.sigmoid()
        return (score - logits.logsumexp(1)).exp()


def copy_to_modify(classifier: FrozenClassifier) -> FrozenClassifier:
    """Copy a classifier's modules, not its weights, so that hooks may be put on them.

    No module of the copy works in place: a hook would see what a later module left.
    """
    tensors = chain(classifier.parameters(), classifier.buffers())
    copied = copy.deepcopy(classifier, {id(tensor): tensor for tensor in tensors})
    for module in copied.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False
    return copied
