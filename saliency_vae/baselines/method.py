"""The interface of a method: a batch and its classifier in, one map for each image out."""

from typing import Protocol

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class Method(Protocol):
    """A way to explain images.

    A method whose maps are zero where a pixel does not matter has an attribute ``zero_is_neutral``
    that is true; of others a map's median is taken for that.
    """

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain the target of each image; where none is given, the classifier's own decision.

        Args:
            batch: Images as float in [0, 1], (B, 3, H, W), with their target, decision and true
                masks where they are known.
            classifier: Classifier to explain, which is left as it was.

        Returns:
            Saliency maps (B, H, W) without gradient; higher means more important.

        Raises:
            ValueError: If a target is given and this method explains the decision alone.
        """
        ...
