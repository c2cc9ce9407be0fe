"""An explainer with the interface of pytorch-grad-cam, which need not be installed."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saliency_vae.adapters.normalised import NormalisedExplainer
from saliency_vae.metrics import min_max
from saliency_vae.models import Explainer


def _score(targets: Sequence[Callable[[Tensor], Tensor]], logits: Tensor) -> Tensor:
    """Score each row of logits (n B, classes) by the target of its image: (n B,).

    A target's values are summed, as in pytorch-grad-cam: it may return (1,) for a single logit.
    """
    rows = zip(cycle(targets), logits, strict=False)
    return torch.stack([target(row).sum() for target, row in rows])


class VariationalCAM:
    """Explainer that is called like pytorch-grad-cam's classes, also in a ``with`` statement.

    Args:
        explainer: Explainer of images in [0, 1].
        mean: Mean that was subtracted from each channel of the inputs; None if none was.
        std: Standard deviation that divided each channel of the inputs; None if none did.

    Raises:
        ValueError: If mean or std is not 3 numbers or a std is not positive.
    """

    def __init__(
        self,
        explainer: Explainer,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self._posterior = NormalisedExplainer(explainer, mean, std)

    def __call__(
        self,
        input_tensor: Tensor,
        targets: Any = None,
        aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> NDArray[np.float32]:
        """Compute the posterior mean, scaled to [0, 1] for each image.

        Args:
            input_tensor: Images (B, 3, H, W).
            targets: Targets for a universal explainer: one pytorch-grad-cam target for each image,
                a function of its logits; None for the decision.
            aug_smooth: Must be False, as the explainer's maps are already smooth.
            eigen_smooth: Must be False, likewise.

        Returns:
            Maps (B, H, W) whose lowest value is 0 and highest value 1; a constant map is all 0.

        Raises:
            ValueError: If the explainer cannot explain the targets, if there is not one for each
                image, or if smoothing is requested.
        """
        if aug_smooth or eigen_smooth:
            raise ValueError(
                "Expected aug_smooth=False and eigen_smooth=False: the explainer smooths its maps "
                f"itself. Found aug_smooth={aug_smooth}, eigen_smooth={eigen_smooth}."
            )
        targets = None if targets is None else list(targets)
        if targets is not None and len(targets) != len(input_tensor):
            raise ValueError(
                f"Expected a target for each image, {len(input_tensor)}. Found {len(targets)}."
            )
        asked = None if targets is None else partial(_score, targets)
        posterior = self._posterior(input_tensor, asked)
        array: NDArray[np.float32] = min_max(posterior.mean).cpu().numpy()
        return array

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: unlike pytorch-grad-cam's classes, there are no hooks to remove."""
