"""Captum's attribution methods, or your own with the same interface, given by import path."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

from torch import Tensor

from saliency_vae.baselines.copies import check_same, shared_copy
from saliency_vae.baselines.merged import merged
from saliency_vae.baselines.target_score import ScoreInParts, TargetScore, target_of
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.runtime.autograd import recording_gradients
from saliency_vae.runtime.extras import require
from saliency_vae.runtime.import_path import import_object
from saliency_vae.runtime.random import seeded

Reduction = Literal["sum", "abs", "max"]
_REDUCE: dict[Reduction, Callable[[Tensor], Tensor]] = {
    "sum": lambda attribution: attribution.sum(1),
    "abs": lambda attribution: attribution.abs().sum(1),
    "max": lambda attribution: attribution.abs().amax(1),
}
# Arguments of attribute() that CaptumMethod passes itself, so they are not settings.
_PASSED = {"self", "inputs", "target", "additional_forward_args"}


def captum_class(path: str) -> Any:
    """Import one of Captum's attribution classes, or a class with the same interface.

    Args:
        path: Import path, such as ``captum.attr.DeepLift``.

    Raises:
        ValueError: If Captum is not installed or there is no such class.
    """
    require("captum", extra="captum", wanted_by="this method")
    try:
        found = import_object(path)
    except ValueError as error:
        raise ValueError(
            "Expected attribution to be an import path such as captum.attr.DeepLift. "
            f"Found {error}."
        ) from None
    if not hasattr(found, "attribute"):
        raise ValueError(f"Expected a class with Captum's attribute(). Found {path!r}.")
    return found


def attribute(
    method: Any,
    batch: Batch,
    classifier: FrozenClassifier,
    *,
    seed: int = 0,
    **arguments: Any,
) -> Tensor:
    """Attribute the score of a batch's target with one of Captum's methods.

    Args:
        method: Instance of a Captum class, made for the target's score.
        batch: Images as float in [0, 1], (B, 3, H, W), and optionally their target.
        classifier: Classifier to explain.
        seed: Seed of the noise; the random states of CPU and CUDA are restored.
        arguments: Further arguments of ``attribute``.

    Returns:
        Captum's attribution, detached.
    """
    images = batch["image"]
    with recording_gradients(), seeded(seed, images.device), warnings.catch_warnings():
        # Captum warns that it registers hooks on modules; they are those of a copy.
        warnings.filterwarnings("ignore", module=r"captum\.")
        inputs = images.detach().clone().requires_grad_()
        attribution: Tensor = method.attribute(
            inputs, additional_forward_args=target_of(batch, classifier), **arguments
        )
        return attribution.detach()


class CaptumMethod:
    """A Captum method that attributes the target's logit to the pixels.

    Args:
        attribution: Import path of Captum's class.
        reduce: Reduction over the colour channels: ``abs``, the sum of magnitudes; ``max``, the
            largest magnitude; ``sum``, the signed sum.
        seed: Seed of the noise.
        arguments: Further arguments of Captum's class or of its ``attribute``.

    Raises:
        ValueError: If Captum is not installed, or an argument is invalid.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> _ = nn.init.ones_(network[1].weight)
        >>> classifier = FrozenClassifier(network, name="linear")
        >>> CaptumMethod("captum.attr.Saliency")({"image": torch.ones(1, 3, 2, 2)}, classifier)
        tensor([[[3., 3.],
                 [3., 3.]]])
    """

    def __init__(
        self,
        attribution: str,
        reduce: Reduction = "abs",
        seed: int = 0,
        **arguments: Any,
    ) -> None:
        if reduce not in get_args(Reduction):
            raise ValueError(
                f"Expected reduce among {', '.join(get_args(Reduction))}. Found {reduce!r}."
            )
        self.attribution = captum_class(attribution)
        self.reduce = reduce
        self.seed = seed
        of_class = inspect.signature(self.attribution).parameters.keys() & arguments.keys()
        self.settings = {name: arguments.pop(name) for name in of_class}
        self.arguments = arguments
        self.zero_is_neutral = reduce == "sum"  # signed
        _check_names(self.attribution, self.arguments)

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Return maps (B, H, W) of a batch, see :class:`saliency_vae.baselines.Method`."""
        images = batch["image"]
        method = self.attribution(self._score(images, classifier), **self.settings)
        attribution = attribute(method, batch, classifier, seed=self.seed, **self.arguments)
        if attribution.shape != images.shape:
            raise ValueError(
                f"Expected {self.attribution.__name__} to attribute to the pixels, "
                f"{tuple(images.shape)}. Found {tuple(attribution.shape)}."
            )
        return _REDUCE[self.reduce](attribution)

    def _score(self, images: Tensor, classifier: FrozenClassifier) -> TargetScore:
        """Score that Captum attributes, on a copy of the classifier if Captum may hook modules."""
        if _calls_alone(self.attribution):
            return ScoreInParts(merged(classifier, images))
        with recording_gradients():
            copied = shared_copy(classifier, in_place=False)
        check_same(copied.network, classifier, images, method=self.attribution.__name__)
        return TargetScore(copied)


def _calls_alone(attribution: Any) -> bool:
    """Whether a class of Captum only calls a forward function and does not hook its modules."""
    parameters = inspect.signature(attribution).parameters
    own = attribution.__module__.startswith("captum.")
    return own and "forward_func" in parameters and "layer" not in parameters


def _check_names(attribution: Any, arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(attribution.attribute).parameters
    known = [
        name
        for name, parameter in parameters.items()
        if name not in _PASSED and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    unknown = arguments.keys() - set(known)
    if unknown:
        raise ValueError(
            f"Expected arguments of {attribution.__name__} among {', '.join(known)}. "
            f"Found {', '.join(sorted(unknown))}."
        )
