"""Configuration of an explainer: its parts, its training and the classifier it explains."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from pydantic import ConfigDict, TypeAdapter, ValidationError

from saliency_vae.classifiers import ClassifierIdentity
from saliency_vae.data import Preprocessing
from saliency_vae.distributions import Family
from saliency_vae.models.part_names import Node, has_own_parts, to_named, to_node, upgrade
from saliency_vae.objective import Distance

FORMAT = 4
BEFORE_NAMES = 3  # older format, with import paths instead of names
_PARTS = ("encoder", "prior", "topk", "perturbation", "confidence", "optimizer", "data")
_OLD_SETTINGS = {"ridge": "mean_penalty"}


@dataclass(frozen=True, kw_only=True)
class ExplainerConfig:
    """Configuration of an explainer; each part is a Hydra node.

    Attributes:
        encoder: Network from an image, and the classifier's signals for it, to the posterior.
        prior: Prior distribution over saliency maps.
        posterior: Family of the approximate posterior.
        confidence: Network that estimates whether the kept view keeps the decision.
        topk: Differentiable top-k of the objective.
        perturbation: Baseline images of the objective.
        beta: Weight of the KL divergence per pixel.
        complement: Weight of the penalty on information in the left-out pixels.
        sharpness: Inverse temperature of the prediction to reconstruct.
        mean_penalty: Weight of the L2 penalty on posterior mean minus prior mean.
        samples: Maps sampled for each image in a training step.
        distance: Distance of two predictions in the objective.
        optimizer: Optimizer of the training.
        data: Data module of the training.
        classifier: Identity of the explained classifier.
        classifiers: Identities of the classifiers that a universal explainer was trained on.
        preprocessing: Preprocessing of the training images.
        image_size: Height and width of the training images.
        name: Name of the run.
        command: Command that trained the explainer.
        version: Version of this package that trained it.
        metrics: Metrics of the training, such as ``val/loss``.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    encoder: Node
    prior: Node
    posterior: Family = "mean_field"
    confidence: Node | None = None
    topk: Node | None = None
    perturbation: Node | None = None
    beta: float | None = None
    complement: float = 0.0
    sharpness: float = 1.0
    mean_penalty: float = 0.0
    samples: int = 1
    distance: Distance = "kl"
    optimizer: Node | None = None
    data: Node | None = None
    classifier: ClassifierIdentity | None = None
    classifiers: tuple[ClassifierIdentity, ...] | None = None
    preprocessing: Preprocessing | None = None
    image_size: tuple[int, int] | None = None
    name: str = "unnamed"
    command: str | None = None
    version: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values with stable part names, as in ``config.json``."""
        plain = {name: value for name, value in asdict(self).items() if value is not None}
        for part in _PARTS:
            if part in plain:
                plain[part] = to_named(part, plain[part])
        if self.classifier is not None:
            builder = to_named("classifier", self.classifier.builder)
            plain["classifier"]["builder"] = builder
        return {**plain, "format": FORMAT}

    def check_loadable(self) -> None:
        """Raise ValueError if an explainer trained with this configuration could not be loaded."""
        for part in ("encoder", "prior", "topk"):
            try:
                to_node(part, to_named(part, getattr(self, part)), part)
            except ValueError as error:
                raise ValueError(
                    f"{error} An explainer with another could not be loaded. It can be trained "
                    "from Python alone, by saliency_vae.training.module.VariationalSaliency."
                ) from None

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], where: str) -> Self:
        """Build from the output of :meth:`to_plain`, of this version or an earlier one.

        Args:
            plain: Plain values.
            where: Source file, for error messages.

        Raises:
            ValueError: If they do not describe an explainer, or the name of a part is unknown.
        """
        values = dict(plain)
        found = values.pop("format", None)
        if found not in (FORMAT, BEFORE_NAMES):
            raise ValueError(f"Expected an explainer of format {FORMAT}. Found {found} in {where}.")
        if found == BEFORE_NAMES:
            values = _upgraded(values)
        if has_own_parts(values.get("perturbation")):
            del values["perturbation"]  # explanations do not need it
        for part in _PARTS:
            if part in values:
                values[part] = to_node(part, values[part], f"{where}: {part}")
        classifier = values.get("classifier")
        if isinstance(classifier, Mapping) and "builder" in classifier:
            builder = to_node("classifier", classifier["builder"], f"{where}: classifier.builder")
            values["classifier"] = {**classifier, "builder": builder}
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            raise ValueError(
                f"Expected {where} to describe an explainer. Found {_first(error)}."
            ) from None


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Convert plain values of the older format, with import paths, to the current names."""
    renamed = {_OLD_SETTINGS.get(name, name): value for name, value in values.items()}
    parts = {name: upgrade(renamed[name]) for name in (*_PARTS, "classifier") if name in renamed}
    return renamed | parts


def _first(error: ValidationError) -> str:
    """Describe the first validation error in a few words."""
    detail = error.errors()[0]
    return f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
