"""The decision that a method explains, and its score: one number for each image."""

import copy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers import FrozenClassifier


@torch.no_grad()
def decide(images: Tensor, classifier: FrozenClassifier) -> Tensor:
    """Weigh the logits so that their weighted sum is the score of the classifier's own decision.

    The decision is the class of highest probability; of a single logit, its sign.

    Args:
        images: Images in [0, 1], (B, 3, H, W).
        classifier: Classifier that decides.

    Returns:
        Weights of the logits, (B, classes): one-hot; for a single logit 1 or -1.

    Example:
        >>> brightness = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        >>> _ = nn.init.ones_(brightness[1].weight), nn.init.constant_(brightness[1].bias, -6)
        >>> classifier = FrozenClassifier(brightness, name="bright", output="sigmoid")
        >>> decide(torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)]), classifier)
        tensor([[-1.],
                [ 1.]])
    """
    logits = classifier(images)
    if logits.shape[1] == 1:
        return torch.where(logits < 0, -1.0, 1.0)
    return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)


class DecisionScore(nn.Module):
    """Logit of a decision.

    Args:
        classifier: Classifier that decides.
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
    """Copy a classifier's modules, which share their weights, so that hooks can be put on them.

    No module of the copy works in place, because a hook would see the output of a later module.
    """
    tensors = chain(classifier.parameters(), classifier.buffers())
    copied = copy.deepcopy(classifier, {id(tensor): tensor for tensor in tensors})
    for module in copied.modules():
        if hasattr(module, "inplace"):
            vars(module)["inplace"] = False
    return copied
