"""Any score per image as a metric of torchmetrics."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class PerImage(Metric):
    """Mean of a score over images that keeps the score of every image, for intervals.

    Right on several devices as long as no image is seen twice; then images come device by device,
    in the same order for every metric that is updated with the same batches.

    ``PerImage(pointing_game)`` or ``PerImage(partial(deletion_curve, classifier, step=224))``.

    Args:
        score: Maps a batch to scores of its images, (B, ...).
        **kwargs: Of :class:`torchmetrics.Metric`.
    """

    full_state_update = False
    scores: list[Tensor]

    def __init__(self, score: Callable[..., Tensor], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score = score
        self.add_state("scores", [], dist_reduce_fx="cat")

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Score a batch: the arguments are the score's own."""
        self.scores.append(self.score(*args, **kwargs).detach().float())

    def compute(self) -> Tensor:
        """Average the scores over images, (...)."""
        return dim_zero_cat(self.scores).mean(0)

    def values(self) -> Tensor:
        """Gather the scores of all images of all devices, (N, ...)."""
        with self.sync_context():
            return dim_zero_cat(self.scores)
