"""The methods to compare: explainers, their controls, and the configured baselines."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor
from tqdm import tqdm

from saliency_vae.baselines import (
    Blurred,
    CentrePrior,
    EdgeMagnitude,
    Method,
    Oracle,
    RandomMap,
)
from saliency_vae.classifiers import FrozenClassifier, TooManyPassesError, counted_passes
from saliency_vae.data import Batch
from saliency_vae.evaluation.explaining import target_for
from saliency_vae.evaluation.roles import EXPLAINER, Role
from saliency_vae.evaluation.signal_controls import RandomisedSignals, ZeroedSignals
from saliency_vae.evaluation.wording import title
from saliency_vae.metrics import peak_memory
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.runtime.extras import MissingExtraError, pip_install
from saliency_vae.runtime.memory import is_out_of_memory
from saliency_vae.runtime.text import described, did_you_mean, one_line

_CONTROLS = (
    *(Blurred, CentrePrior, EdgeMagnitude, RandomMap),
    *(RandomisedSignals, ZeroedSignals),
)
_FORMER_NAME = "ours"  # of the explainer, until version 0.1.0


class ExplainerMethod:
    """An explainer as a method to compare: its maps are the posterior means.

    Args:
        explainer: Trained explainer, or its directory.
    """

    def __init__(self, explainer: Explainer | str) -> None:
        self.explainer = load_explainer(explainer) if isinstance(explainer, str) else explainer

    @torch.no_grad()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W).

        Raises:
            ValueError: If a target is given and the explainer explains only the decision.
        """
        images = batch["image"]
        explainer = self.explainer.to(images.device).attach_classifier(classifier, force=True)
        # Images may lie outside [0, 1]: robustness is measured with added noise.
        return explainer.encode(images, target=target_for(explainer, batch)).mean


class RefinedExplainer(ExplainerMethod):
    """The posterior mean of an explainer, refined by gradient steps on each image.

    Args:
        explainer: Trained explainer, or its directory.
        steps: Gradient steps on each explanation, >= 1.
    """

    def __init__(self, explainer: Explainer | str, steps: int) -> None:
        super().__init__(explainer)
        self.steps = steps

    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W).

        Raises:
            ValueError: If a target is given and the explainer explains only the decision.
        """
        images = batch["image"].clamp(0, 1)  # robustness is measured with added noise
        explainer = self.explainer.to(images.device).attach_classifier(classifier, force=True)
        target = target_for(explainer, batch)
        refined = explainer.refine(images, classifier, target=target, steps=self.steps)
        return refined.posterior.mean


class ImageOnlyControl(ExplainerMethod):
    """Control: an explainer trained the same way, whose encoder sees only the image.

    Args:
        explainer: Directory of the explainer.

    Raises:
        ValueError: If its encoder sees the classifier's signals.
    """

    def __init__(self, explainer: str) -> None:
        super().__init__(explainer)
        if self.explainer.is_conditional:
            raise ValueError(
                "Expected image_only=DIR to be an explainer whose encoder sees the image alone, "
                "such as one trained with encoder=unet. Found a classifier-conditioned one in "
                f"{explainer}."
            )


@dataclass(frozen=True)
class Methods:
    """Methods to compare.

    Attributes:
        by_name: Methods by name, in the order of the comparison.
        memory: Name to the peak of tensor memory, bytes, for one image; empty before
            :func:`warm_up`.
        passes: Name to the number of classifier passes for one image whose decision is known;
            empty before :func:`warm_up`.
        left_out: Methods that are not compared and why, one sentence each.
        slow_passes: Number of classifier passes for one image above which a method is slow.
    """

    by_name: Mapping[str, Method]
    memory: Mapping[str, float] = field(default_factory=dict)
    passes: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    slow_passes: int = 200

    @property
    def roles(self) -> dict[str, Role]:
        """Name to role."""
        return {name: role_of(method) for name, method in self.by_name.items()}

    def is_slow(self, name: str) -> bool:
        """Whether a method takes so many passes that it is scored on only a few images."""
        return self.passes.get(name, 0) > self.slow_passes

    def costly_first(self) -> list[str]:
        """Names, most passes first, so that partitions share costly methods evenly."""
        return sorted(self.by_name, key=lambda name: -self.passes.get(name, 0))


def role_of(method: Method) -> Role:
    """Role of a method, by its class.

    Example:
        >>> role_of(RandomMap()).name, role_of(Oracle()).name
        ('CONTROL', 'ORACLE')
    """
    if isinstance(method, (ImageOnlyControl, *_CONTROLS)):
        return Role.CONTROL
    if isinstance(method, ExplainerMethod):
        return Role.EXPLAINER
    return Role.ORACLE if isinstance(method, Oracle) else Role.RIVAL


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Reject unknown method names.

    Raises:
        ValueError: If there is no name, or an unknown one.
    """
    unknown = [name for name in names if name not in known]
    if names and not unknown:
        return
    if _FORMER_NAME in unknown:
        raise ValueError(
            f"Expected {EXPLAINER} among methods, the new name of {_FORMER_NAME}. "
            f"Found {', '.join(names)}."
        )
    hint = did_you_mean(unknown[0], known) if unknown else ""
    raise ValueError(
        f"Expected methods among {', '.join(known)}. Found {', '.join(unknown) or 'none'}.{hint}"
    )


def build_methods(
    names: Sequence[str] | None, nodes: Mapping[str, object], given: Mapping[str, Method]
) -> Methods:
    """Build the methods to compare.

    Args:
        names: Names of the methods; None for all whose optional extras are installed.
        nodes: Hydra nodes of the other methods by name; a node that is None is left out.
        given: Explainers to evaluate, and their controls, by name.

    Raises:
        ValueError: If there is no name or an unknown one, or a node is not a method.
    """
    for name in given:
        if nodes.get(name) is not None:
            raise ValueError(
                f"Expected another name than {name} for a baseline: it is that of an evaluated "
                f"explainer or its control. Found baselines.{name}."
            )
    left_out = [f"{title(m)}: baselines.{m} is null." for m, node in nodes.items() if node is None]
    nodes = {name: node for name, node in nodes.items() if node is not None}
    known = [*given, *nodes]
    check_names(known if names is None else names, known)
    methods: dict[str, Method] = {}
    lacking: dict[str, list[str]] = {}
    for name in known if names is None else names:
        try:
            methods[name] = given.get(name) or instantiate(nodes[name], _convert_="all")
        except InstantiationException as error:
            cause = error.__cause__
            if names is not None or not isinstance(cause, MissingExtraError):
                raise
            lacking.setdefault(cause.extra, []).append(name)
            continue
        if not callable(methods[name]):
            raise ValueError(f"Expected baselines.{name} to be a method. Found {methods[name]}.")
    for extra, without in lacking.items():
        needed = f"they need the optional extra {extra}, {pip_install(extra)}."
        left_out.append(f"{', '.join(without)}: {needed}")
    return Methods(methods, left_out=tuple(left_out))


def warm_up(
    methods: Methods, image: Batch, classifier: FrozenClassifier, *, strict: bool, slow: bool = True
) -> Methods:
    """Let each method explain one image, to warm it up and to find those that cannot.

    Args:
        methods: Methods to compare.
        image: Batch of one image.
        classifier: Classifier to explain.
        strict: Whether a method that cannot explain this classifier or these data raises an error;
            otherwise it is left out. An explainer always raises.
        slow: Whether slow methods finish their explanation. Otherwise all but the evaluated
            explainer, which is scored in any case, stop once they prove slow, and their passes are
            some number above ``slow_passes``.

    Returns:
        The methods that can explain the image, with their peak memory and passes.

    Raises:
        ValueError: If a method fails and is not left out.
    """
    able: dict[str, Method] = {}
    memory: dict[str, float] = {}
    passes: dict[str, float] = {}
    left_out = list(methods.left_out)
    progress = tqdm(methods.by_name.items(), desc="Trying methods", unit="method", leave=False)
    for name, method in progress:
        progress.set_postfix_str(name)
        explain = partial(method, image, classifier)
        try:
            passes[name] = _passes_at_first(explain, methods.slow_passes)
            if slow or name == EXPLAINER or passes[name] <= methods.slow_passes:
                with counted_passes() as counted:
                    memory[name] = peak_memory(explain)
                passes[name] = counted.number
        except ValueError as error:
            if strict or role_of(method) is Role.EXPLAINER:
                raise
            left_out.append(f"{name}: {one_line(error)}")
        except Exception as error:  # an error of another package does not name the method
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"Expected {name} to explain an image with the settings baselines.{name}. "
                f"Found {described(error)}."
            ) from error
        else:
            able[name] = method
    return replace(methods, by_name=able, memory=memory, passes=passes, left_out=tuple(left_out))


def _passes_at_first(explain: Callable[[], object], enough: float) -> float:
    """Count the passes of a first call, which also fills caches; stop after ``enough``."""
    with counted_passes(enough) as counted, suppress(TooManyPassesError):
        explain()
    return counted.number
