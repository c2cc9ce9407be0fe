"""Base class of explainers: the record of the training, and the explained classifier."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self

from hydra.utils import instantiate
from torch import Tensor, nn

from saliency_vae.classifiers import (
    ClassifierIdentity,
    FrozenClassifier,
    build_classifier,
    build_recorded,
    check_frozen,
)
from saliency_vae.classifiers.recorded import with_built_in_weights
from saliency_vae.models.conditional_encoder import ConditionalEncoder, ConditionalUNet
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.signals import find_feature_maps
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur, needs_batch
from saliency_vae.runtime.autograd import recording_gradients


class RecordedExplainer(nn.Module):
    """An encoder, the record of its training, and the classifier that it explains.

    Args:
        encoder: Network of the explainer.

    Attributes:
        recorded: Its configuration; None for an explainer that was assembled by hand.
        figure: Picture file of its explanations, if there is one.
        kept_classifier: File with the built-in classifier's weights, which is saved with it.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.recorded: ExplainerConfig | None = None
        self.figure: Path | None = None
        self.kept_classifier: Path | None = None
        # In a tuple it is not a submodule: it is not trained, saved or moved with the explainer.
        self._attached: tuple[FrozenClassifier] | None = None
        self._gives_logits = False  # whether check_logits has confirmed the classifier

    def record(self, **settings: Any) -> None:
        """Replace settings of the configuration, if there is one.

        Args:
            settings: Fields of :class:`ExplainerConfig`.
        """
        if self.recorded is not None:
            self.recorded = replace(self.recorded, **settings)

    @property
    def config(self) -> ExplainerConfig:
        """Configuration: its parts, its training, and the classifier that it explains.

        Raises:
            ValueError: If this explainer was assembled by hand.
        """
        if self.recorded is None:
            raise ValueError(
                "Expected an explainer made by Explainer.from_config, which can be saved. "
                "Found one that was put together by hand."
            )
        return self.recorded

    @property
    def is_conditional(self) -> bool:
        """Whether the encoder is conditioned on the classifier's signals for each image."""
        return isinstance(self.encoder, ConditionalEncoder)

    @property
    def is_universal(self) -> bool:
        """Whether it explains any class of any classifier; otherwise one classifier's decision."""
        return isinstance(self.encoder, ConditionalEncoder) and self.encoder.answers_targets

    def attach_classifier(self, classifier: FrozenClassifier, *, force: bool = False) -> Self:
        """Attach the classifier that a classifier-conditioned encoder is conditioned on.

        Needed only for a classifier that cannot be rebuilt from the record, such as your own.

        Args:
            classifier: The classifier that this explainer was trained for; it is moved to the
                images' device.
            force: Accept it even if the explainer was trained for another one.

        Raises:
            ValueError: If it differs from the recorded one, or is not a :class:`FrozenClassifier`.
        """
        check_frozen(classifier)
        expected = None if self.recorded is None else self.recorded.classifier
        if expected is not None and not force and not self.is_universal:
            classifier.identity().check(expected)
        self._attached, self._gives_logits = (classifier,), False
        return self

    @property
    def classifier(self) -> FrozenClassifier:
        """The explained classifier: the attached one, or else rebuilt from the record.

        Raises:
            ValueError: If the record does not say how to build it, or names code outside this
                package.
        """
        if self._attached is None:
            with recording_gradients():
                self._attached = (self.build_classifier(),)
        return self._attached[0]

    @property
    def classifier_identity(self) -> ClassifierIdentity:
        """Identity of the classifier that this explainer was trained for.

        Raises:
            ValueError: If it is not recorded.
        """
        if self.recorded is None or self.recorded.classifier is None:
            raise ValueError(
                "Expected an explainer that records its classifier's identity. Found none."
            )
        return self.recorded.classifier

    def was_trained_for(self, identity: ClassifierIdentity) -> bool:
        """Whether a classifier with this identity was explained in training."""
        trained = [*(self.config.classifiers or ())]
        if self.config.classifier is not None or not trained:
            trained.append(self.classifier_identity)
        return any(not known.differences(identity) for known in trained)

    def build_classifier(
        self, node: dict[str, Any] | None = None, *, force: bool = False
    ) -> FrozenClassifier:
        """Build the classifier to explain, see :func:`build_recorded`.

        Args:
            node: Hydra node of the classifier; by default the recorded one.
            force: Accept a different classifier or preprocessing.

        Raises:
            ValueError: If it is a different one, or the record does not say how to build it.
        """
        if self.is_universal and (node is not None or self.config.classifier is None):
            if node is None:
                raise ValueError(
                    "Expected a classifier, such as classifier=torchvision "
                    "classifier.name=resnet50, in Python explainer.attach_classifier(classifier): "
                    "a universal explainer explains any classifier, and comes with none."
                )
            return build_classifier(node)
        expected = self.classifier_identity
        kept = self.kept_classifier
        if node is None and kept is not None and expected.builder is not None:
            expected = replace(expected, builder=with_built_in_weights(expected.builder, kept))
        return build_recorded(expected, self.config.preprocessing, node, force=force)

    def find_features(self, classifier: FrozenClassifier, images: Tensor) -> None:
        """Rebuild a :class:`ConditionalUNet` for its classifier's feature maps; only once.

        Args:
            classifier: Classifier whose feature maps the encoder will read.
            images: A few images in [0, 1], (B, 3, H, W).
        """
        node = None if self.recorded is None else self.recorded.encoder
        conditional = isinstance(self.encoder, ConditionalUNet)
        if not conditional or node is None or "features" in node:
            return
        node = {**node, "features": find_feature_maps(classifier, images)}
        self.encoder = instantiate(node, _convert_="all")
        self.record(encoder=node)

    def objective(self, perturbation: nn.Module | None = None) -> Objective:
        """Objective that this explainer was trained with.

        Args:
            perturbation: Module that makes its baseline images; by default that of the training.

        Raises:
            ValueError: If its configuration does not contain it.
        """
        found = {
            field.name: getattr(self.recorded, field.name, None) for field in fields(Objective)
        }
        other = {} if perturbation is None else {"perturbation": perturbation}
        needed = {"topk", "perturbation", "beta"} - other.keys()
        missing = [name for name in needed if found[name] is None]
        if missing:
            raise ValueError(
                "Expected an explainer whose config.json holds topk, perturbation and beta. "
                f"Found none of {', '.join(sorted(missing))}."
            )
        given = {name: value for name, value in found.items() if value is not None}
        return Objective(**instantiate(given, _convert_="all") | other)

    def baseline(self) -> nn.Module:
        """Module that makes the baseline images of explanations: that of training, if possible.

        It is a blur for a universal explainer, and for one trained with your own perturbation or
        with other images of the batch, as an explanation must not depend on its batch.
        """
        own = self.recorded is not None and self.recorded.perturbation is None
        if own or self.is_universal:
            return Blur()
        perturbation = self.objective().perturbation
        return Blur() if needs_batch(perturbation) else perturbation
