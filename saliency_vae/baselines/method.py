"""What every method is: a batch and its classifier in, one map for each image out."""

from typing import Protocol

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class Method(Protocol):
    """A way to explain images."""

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain the classifier's own decision for each image.

        Args:
            batch: ``image`` float in [0, 1], (B, 3, H, W); the true ``mask`` where known.
            classifier: To explain; left as it was.

        Returns:
            Saliency maps (B, H, W), no gradient; higher means more important.
        """
        ...
