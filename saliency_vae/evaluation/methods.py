"""Which methods are compared: ours, those of the configuration, and what of it can run here."""

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import Tensor

from saliency_vae.baselines import Blurred, CentrePrior, EdgeMagnitude, Method, Oracle, RandomMap
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.data import Batch
from saliency_vae.evaluation.metric_info import title
from saliency_vae.evaluation.results import Results
from saliency_vae.evaluation.verdicts import OURS
from saliency_vae.metrics import peak_memory
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.runtime.memory import is_out_of_memory

_CONTROLS = (Blurred, CentrePrior, EdgeMagnitude, RandomMap, Oracle)


class ExplainerMethod:
    """The posterior mean of an explainer.

    Args:
        explainer: Trained, or its directory: so a second one joins the comparison,
            ``+baselines.ours_paper._target_=saliency_vae.evaluation.methods.ExplainerMethod``.
    """

    def __init__(self, explainer: Explainer | str) -> None:
        self.explainer = load_explainer(explainer) if isinstance(explainer, str) else explainer

    @torch.inference_mode()
    def __call__(self, batch: Batch, classifier: FrozenClassifier) -> Tensor:
        """Explain a batch, see :class:`saliency_vae.baselines.Method`: (B, H, W)."""
        images = batch["image"]
        explainer = self.explainer.to(images.device).attach_classifier(classifier, force=True)
        return explainer.infer(images).mean  # unchecked: robustness is measured by added noise


def check_names(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse to compare methods that nobody knows.

    Raises:
        ValueError: If there is no name, or an unknown one.
    """
    unknown = [name for name in names if name not in known]
    if names and not unknown:
        return
    near = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"Expected methods among {', '.join(known)}. Found {', '.join(unknown) or 'none'}.{hint}"
    )


def build_methods(
    names: Sequence[str] | None,
    nodes: Mapping[str, object],
    explainer: Explainer,
    left_out: list[str],
) -> dict[str, Method]:
    """Build the methods to compare.

    Args:
        names: Of the methods; None for ours and all nodes, without what needs Captum where it is
            not installed.
        nodes: Hydra nodes of the methods by name; None leaves one out, and is said to.
        explainer: Ours.
        left_out: Is told what is left out.

    Raises:
        ValueError: If there is an unknown name, or none.
    """
    left_out += [f"{title(m)}: baselines.{m} is null." for m, node in nodes.items() if node is None]
    nodes = {name: node for name, node in nodes.items() if node is not None}
    known = list(dict.fromkeys([OURS, *nodes]))
    check_names(known if names is None else names, known)
    methods: dict[str, Method] = {}
    without_captum = []
    for name in known if names is None else names:
        try:
            methods[name] = (
                ExplainerMethod(explainer)
                if name == OURS
                else instantiate(nodes[name], _convert_="all")
            )
        except InstantiationException as error:
            if names is not None or not _lacks_captum(error):
                raise
            without_captum.append(name)
            continue
        if not callable(methods[name]):
            raise ValueError(f"Expected baselines.{name} to be a method. Found {methods[name]}.")
    if without_captum:
        left_out.append(
            f"{', '.join(without_captum)}: they need pip install 'saliency-vae[captum]'."
        )
    return methods


def _lacks_captum(error: InstantiationException) -> bool:
    return find_spec("captum") is None and "extra captum" in str(error.__cause__)


def warm_up(
    methods: Mapping[str, Method],
    image: Batch,
    classifier: FrozenClassifier,
    results: Results,
    *,
    strict: bool,
) -> dict[str, Method]:
    """Let each method explain one image, which also warms it up, and note its peak memory.

    Args:
        methods: By name.
        image: Batch of one.
        classifier: To explain.
        results: Is told the memory, which methods are controls, and what is left out.
        strict: Whether a method that cannot explain this classifier or these data is an error.

    Returns:
        The methods that can.

    Raises:
        ValueError: Of a method, if strict, or of all methods.
    """
    able: dict[str, Method] = {}
    for name, method in methods.items():
        try:
            method(image, classifier)  # what is made once and kept is no cost of an explanation
            results.memory[name] = peak_memory(partial(method, image, classifier))
        except ValueError as error:
            if strict or name == OURS:
                raise
            results.left_out.append(f"{name}: {' '.join(str(error).split())}")
        except Exception as error:  # another package's, which does not name the method
            if is_out_of_memory(error):
                raise
            raise ValueError(
                f"Expected {name} to explain an image with the settings baselines.{name}. "
                f"Found {type(error).__name__}: {error}"
            ) from error
        else:
            able[name] = method
    results.controls = {name for name, method in able.items() if isinstance(method, _CONTROLS)}
    results.oracles = {name for name, method in able.items() if isinstance(method, Oracle)}
    return able
