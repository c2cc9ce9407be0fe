"""Any of Captum's methods, or the user's own in Captum's shape, by import path."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from hydra.utils import get_object
from torch import Tensor

from saliency_vae.baselines.decision import DecisionScore, copy_to_modify, decide
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch

Reduction = Literal["sum", "abs", "max"]
_REDUCE: dict[Reduction, Callable[[Tensor], Tensor]] = {
    "sum": lambda attribution: attribution.sum(1),
    "abs": lambda attribution: attribution.abs().sum(1),
    "max": lambda attribution: attribution.abs().amax(1),
}
_OURS = {"self", "inputs", "target", "additional_forward_args"}  # that CaptumMethod passes itself


def captum_class(path: str) -> Any:
    """Import one of Captum's attribution classes, or one made like them.

    Args:
        path: Such as ``captum.attr.DeepLift``.

    Raises:
        ValueError: If Captum is not installed or there is no such class.
    """
    if find_spec("captum") is None:
        raise ValueError(
            "Expected the optional extra captum for this method. Not found: "
            "pip install 'saliency-vae[captum]'."
        )
    try:
        found = get_object(path)
    except Exception as error:
        raise ValueError(
            "Expected attribution to be an import path such as captum.attr.DeepLift. "
            f"Found {path!r} ({' '.join(str(error).split())})."
        ) from None
    if not hasattr(found, "attribute"):
        raise ValueError(f"Expected a class with Captum's attribute(). Found {path!r}.")
    return found


def attribute(
    build: Callable[[DecisionScore], Any],
    images: Tensor,
    classifier: FrozenClassifier,
    *,
    seed: int = 0,
    **arguments: Any,
) -> Tensor:
    """Attribute the classifier's decisions as Captum does.

    Args:
        build: Makes the attribution of the module to attribute, a :class:`DecisionScore`.
        images: In [0, 1], (B, 3, H, W).
        classifier: To explain; Captum hooks a copy of it.
        seed: Of the noise; torch's own random numbers stay as they were.
        arguments: Of ``attribute``.

    Returns:
        What Captum gives, no gradient.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices),
        warnings.catch_warnings(),
    ):
        # Captum tells that it hooks modules: those of our copy.
        warnings.filterwarnings("ignore", module=r"captum\.")
        torch.manual_seed(seed)
        inputs = images.detach().clone().requires_grad_()
        attribution: Tensor = build(DecisionScore(copy_to_modify(classifier))).attribute(
            inputs, additional_forward_args=decide(inputs, classifier), **arguments
        )
        return attribution.detach()


class CaptumMethod:
    """A method of Captum's that attributes the decision's logit to the input.

    Args:
        attribution: Import path of its class.
        reduce: Over the colour channels: ``abs``, the sum of magnitudes; ``max``, the largest
            magnitude; ``sum``, the signed sum.
        noise_tunnel: Arguments of Captum's ``NoiseTunnel.attribute``, which averages over noisy
            images; None for none.
        seed: Of the noise.
        arguments: Further ones of the class or of its ``attribute``.

    Raises:
        ValueError: If Captum is not installed, or an argument does not fit.
    """

    def __init__(
        self,
        attribution: str,
        reduce: Reduction = "abs",
        noise_tunnel: Mapping[str, Any] | None = None,
        seed: int = 0,
        **arguments: Any,
    ) -> None:
        if reduce not in get_args(Reduction):
            raise ValueError(
                f"Expected reduce among {', '.join(get_args(Reduction))}. Found {reduce!r}."
            )
        self.attribution = captum_class(attribution)
        self.reduce = reduce
        self.noise_tunnel = dict(noise_tunnel or {})
        self.seed = seed
        of_class = inspect.signature(self.attribution).parameters.keys() & arguments.keys()
        self.settings = {name: arguments.pop(name) for name in of_class}
        self.arguments = arguments
        _check_names(self.attribution, self.arguments)
        _check_names(captum_class("captum.attr.NoiseTunnel"), self.noise_tunnel)

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        images = batch["image"]
        options = self.arguments | self.noise_tunnel
        attribution = attribute(self._build, images, classifier, seed=self.seed, **options)
        if attribution.shape != images.shape:
            raise ValueError(
                f"Expected {self.attribution.__name__} to attribute to the pixels, "
                f"{tuple(images.shape)}. Found {tuple(attribution.shape)}."
            )
        return _REDUCE[self.reduce](attribution)

    def _build(self, score: DecisionScore) -> Any:
        attribution = self.attribution(score, **self.settings)
        if self.noise_tunnel:
            return captum_class("captum.attr.NoiseTunnel")(attribution)
        return attribution


def _check_names(attribution: Any, arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(attribution.attribute).parameters
    known = [
        name
        for name, parameter in parameters.items()
        if name not in _OURS and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    unknown = arguments.keys() - set(known)
    if unknown:
        raise ValueError(
            f"Expected arguments of {attribution.__name__} among {', '.join(known)}. "
            f"Found {', '.join(sorted(unknown))}."
        )
