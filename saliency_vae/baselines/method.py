"""Interface of an attribution method: it maps a batch and a classifier to saliency maps."""

from typing import Protocol

from torch import Tensor

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch


class Method(Protocol):
    """An attribution method, which explains a classifier's outputs by saliency maps.

    A method whose maps are zero where a pixel does not matter has an attribute ``zero_is_neutral``
    that is true. For other methods, the median of a map counts as neutral.
    """

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain the target of each image, or the classifier's own decision if none is given.

        Args:
            batch: Images as float in [0, 1], (B, 3, H, W), with their target, decision and true
                masks where known.
            classifier: Classifier to explain; it is left unchanged.

        Returns:
            Saliency maps (B, H, W) without gradient; higher means more important.

        Raises:
            ValueError: If a target is given and this method explains only the decision.
        """
        ...
