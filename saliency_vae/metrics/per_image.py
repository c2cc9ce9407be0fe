"""Any score of an image as a metric of torchmetrics."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class PerImage(Metric):
    """Mean of a score over images that keeps the score of every image, for intervals.

    On several devices each image must be seen once. Then the scores are ordered by device, in the
    same way for all metrics that are updated with the same batches.

    Args:
        score: Function that maps a batch to the scores of its images, (B, ...), such as
            ``partial(deletion_curve, classifier, step=224)``.
        **kwargs: Keyword arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from saliency_vae.metrics import mask_iou
        >>> metric = PerImage(mask_iou)
        >>> for saliency in (torch.tensor([[[0.9, 0.1]]]), torch.tensor([[[0.1, 0.9]]])):
        ...     metric.update(saliency, mask=torch.tensor([[[True, False]]]))
        >>> metric.values(), metric.compute()
        (tensor([1., 0.]), tensor(0.5000))
    """

    full_state_update = False
    scores: list[Tensor]

    def __init__(self, score: Callable[..., Tensor], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.add_state("scores", [], dist_reduce_fx="cat")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Score a batch; the arguments are those of the score."""
        self.scores.append(self.score(*args, **kwargs).detach().float())

    def compute(self) -> Tensor:
        """Mean of the scores over images, (...)."""
        return dim_zero_cat(self.scores).mean(0)

    def values(self) -> Tensor:
        """Scores of all images on all devices, (N, ...)."""
        with self.sync_context():
            return dim_zero_cat(self.scores)
