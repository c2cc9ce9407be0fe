"""An explainer: images in, a distribution over their saliency maps out."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from saliency_vae.classifiers import (
    ClassifierIdentity,
    FrozenClassifier,
    build_recorded,
    check_frozen,
)
from saliency_vae.distributions import (
    ExponentialPrior,
    Family,
    SaliencyPosterior,
    SaliencyPrior,
    make_posterior,
)
from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.confidence import CONFIDENCE_FRACTION, ConfidenceNetwork
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.encoders import fold_batch_norm
from saliency_vae.models.model_card import FIGURE, model_card
from saliency_vae.models.refinement import Refinement, refine
from saliency_vae.models.serialization import (
    CONFIG,
    WEIGHTS,
    find_directory,
    read_config,
    write_directory,
)
from saliency_vae.models.signals import ClassifierSignals, extract_signals, feature_maps
from saliency_vae.objective import Objective
from saliency_vae.runtime.text import described

_BEYOND = 0.25  # [0, 1] that noise or a bicubic resizing may add
_MOST_PRIORS = 8  # of as many sizes of image are kept


class Explainer(nn.Module, PyTorchModelHubMixin):
    """Encoder, the family of its posterior, and the network that says how far to trust it.

    ``figure`` is the file of a picture of its explanations, if there is one.

    Args:
        encoder: Images (B, 3, H, W) to mean and log-variance (B, 2, H, W).
        prior: Makes the prior over maps of ``(height, width, device=...)``.
        posterior: ``mean_field``, independent pixels (the paper), or ``correlated`` as the prior.
        confidence: Gives ``posterior.confidence``; None to do without.

    Raises:
        ValueError: If posterior is unknown or the prior's parameters are out of range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prior: Callable[..., SaliencyPrior],
        posterior: Family = "mean_field",
        confidence: ConfidenceNetwork | None = None,
    ) -> None:
        super().__init__()
        if posterior not in get_args(Family):
            raise ValueError(f"Expected posterior mean_field or correlated. Found {posterior!r}.")
        prior(2, 2)  # refuses bad parameters now rather than at the first image
        self.encoder = encoder
        self.posterior = posterior
        self.confidence = confidence
        self.recorded: ExplainerConfig | None = None
        self.figure: Path | None = None
        self.make_prior = prior
        self._fixed_priors: dict[tuple[int, int, torch.device], SaliencyPrior] = {}
        # In a tuple it is not a submodule: not trained, not saved, moved by its owner.
        self._attached: tuple[FrozenClassifier] | None = None

    @classmethod
    def from_config(cls, config: ExplainerConfig) -> Self:
        """Build an untrained explainer from its configuration."""
        explainer = cls(
            instantiate(config.encoder, _convert_="all"),
            prior=instantiate(config.prior, _convert_="all"),
            posterior=config.posterior,
            confidence=instantiate(config.confidence, _convert_="all"),
        )
        explainer.recorded = config
        return explainer

    def record(self, **settings: Any) -> None:
        """Replace settings of the configuration, if there is one.

        Args:
            settings: Fields of :class:`ExplainerConfig`.
        """
        if self.recorded is not None:
            self.recorded = replace(self.recorded, **settings)

    @property
    def config(self) -> ExplainerConfig:
        """What it is made of, how it was trained, and which classifier it explains.

        Raises:
            ValueError: If it was put together by hand.
        """
        if self.recorded is None:
            raise ValueError(
                "Expected an explainer made by Explainer.from_config, which can be saved. "
                "Found one that was put together by hand."
            )
        return self.recorded

    def add_confidence(self, node: dict[str, Any]) -> None:
        """Build the confidence network of a Hydra node, and record the node."""
        self.confidence = instantiate(node, _convert_="all")
        self.record(confidence=node)

    @property
    def is_conditional(self) -> bool:
        """Whether the encoder asks the classifier about each image."""
        return isinstance(self.encoder, ConditionalUNet)

    def attach_classifier(self, classifier: FrozenClassifier, *, force: bool = False) -> Self:
        """Let an encoder that asks the classifier ask this one.

        Needed only for a classifier that the explainer cannot build of what it recorded, such as
        one of your own.

        Args:
            classifier: To ask; it follows the images' device.
            force: Take it even if the explainer was trained for another.

        Raises:
            ValueError: If it is another than the recorded, or no :class:`FrozenClassifier`.
        """
        check_frozen(classifier)
        expected = None if self.recorded is None else self.recorded.classifier
        if expected is not None and not force:
            classifier.identity().check(expected)
        self._attached = (classifier,)
        return self

    @property
    def classifier(self) -> FrozenClassifier:
        """Classifier that is explained: that of :meth:`attach_classifier`, else built as recorded.

        Raises:
            ValueError: If the record does not say how, or names code that is not ours.
        """
        if self._attached is None:
            with torch.inference_mode(False):  # what is made in it knows no gradient
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

    def build_classifier(
        self, node: dict[str, Any] | None = None, *, force: bool = False
    ) -> FrozenClassifier:
        """Build the classifier that is explained, see :func:`build_recorded`.

        Args:
            node: Hydra node of the classifier; by default the one that was recorded.
            force: Take it even if it is another one, or preprocesses images differently.

        Raises:
            ValueError: If it is another one, or the record does not say how to build it.
        """
        expected = self.classifier_identity
        return build_recorded(expected, self.config.preprocessing, node, force=force)

    def find_features(self, classifier: FrozenClassifier, images: Tensor) -> None:
        """Build an encoder that asks anew, for the feature maps of its classifier; once.

        Args:
            classifier: To ask.
            images: A few, in [0, 1], (B, 3, H, W).
        """
        node = None if self.recorded is None else self.recorded.encoder
        if not self.is_conditional or node is None or "features" in node:
            return
        node = {**node, "features": feature_maps(classifier, images)}
        self.encoder = instantiate(node, _convert_="all")
        self.record(encoder=node)

    def signals(self, images: Tensor) -> ClassifierSignals | None:
        """Ask the classifier about images (B, 3, H, W); None if the encoder asks nothing.

        Raises:
            ValueError: If the encoder asks a classifier and there is none: see :attr:`classifier`.
        """
        if not isinstance(self.encoder, ConditionalUNet):
            return None
        classifier = _beside(self.classifier, images)
        signals: ClassifierSignals = extract_signals(
            images, classifier, self.encoder.levels, self.encoder.scales
        )
        return signals

    @property
    def learned_correlation(self) -> Tensor | None:
        """The prior's correlation as learned so far, (1,) or (2,); None if it is fixed."""
        return self.make_prior.learned if isinstance(self.make_prior, ExponentialPrior) else None

    def prior(self, images: Tensor, signals: ClassifierSignals | None = None) -> SaliencyPrior:
        """Prior p(s) over maps of images (B, 3, H, W), or of each image where there are signals.

        Without signals one object for each size and device, but a new one each time while its
        correlation is learned.
        """
        prior = self._prior(images)
        if signals is None or not isinstance(self.encoder, ConditionalUNet):
            return prior
        return prior.around(self.encoder.prior_mean(signals))

    def _prior(self, images: Tensor) -> SaliencyPrior:
        height, width = images.shape[-2:]
        of = height, width, images.device
        prior = self._fixed_priors.get(of)
        if prior is None:
            with torch.inference_mode(False):  # it may be used in training later
                prior = self.make_prior(height, width, device=images.device)
            if self.learned_correlation is None:
                recent = list(self._fixed_priors.items())[1 - _MOST_PRIORS :]
                self._fixed_priors = dict([*recent, (of, prior)])
        return prior

    def forward(self, images: Tensor) -> SaliencyPosterior:
        """Explain images.

        Args:
            images: In [0, 1], (B, 3, H, W), H, W >= 16.

        Returns:
            Posterior q(s|x), batch shape (B,), event shape (H, W), float32.

        Raises:
            ValueError: If the images are others.
        """
        if not torch.compiler.is_compiling():
            _check(images)
        return self.infer(images)

    def infer(
        self,
        images: Tensor,
        prior: SaliencyPrior | None = None,
        signals: ClassifierSignals | None = None,
    ) -> SaliencyPosterior:
        """Explain as :meth:`forward` does, without looking at the range, which waits for a device.

        For images that are known to be in [0, 1], and for those with added noise.

        Args:
            images: (B, 3, H, W), H, W >= 16.
            prior: That of these images and signals, where it is at hand.
            signals: Likewise.
        """
        signals = self.signals(images) if signals is None else signals
        prior = self.prior(images, signals) if prior is None else prior
        posterior = make_posterior(self.posterior, *self.encode(images, signals), prior)
        if self.confidence is not None:
            posterior.estimate_confidence = partial(self.estimate_confidence, images)
        return posterior

    def encode(self, images: Tensor, signals: ClassifierSignals | None) -> tuple[Tensor, Tensor]:
        """Encode images and their signals: mean and log-variance, (B, H, W) each, float32."""
        encoded = self.encoder(images) if signals is None else self.encoder(images, signals)
        mean, log_variance = encoded.float().unbind(1)
        return mean, log_variance

    def estimate_confidence(self, images: Tensor, posterior: SaliencyPosterior) -> Tensor:
        """Say how likely the most salient 5 % of each image keep the classifier's decision.

        Args:
            images: In [0, 1], (B, 3, H, W).
            posterior: Of these images, by this explainer or refined.

        Returns:
            Probability, (B,).

        Raises:
            ValueError: If this explainer has no network for it.
        """
        if self.confidence is None:
            raise ValueError("Expected an explainer with a confidence network. Found none.")
        confidence: Tensor = self.confidence(images, posterior.topk_mask(CONFIDENCE_FRACTION))
        return confidence

    def objective(self) -> Objective:
        """Objective that this explainer was trained with.

        Raises:
            ValueError: If its configuration does not say.
        """
        found = {
            field.name: getattr(self.recorded, field.name, None) for field in fields(Objective)
        }
        missing = [name for name in ("topk", "perturbation", "beta") if found[name] is None]
        if missing:
            raise ValueError(
                "Expected an explainer whose config.json holds topk, perturbation and beta. "
                f"Found none of {', '.join(sorted(missing))}."
            )
        given = {name: value for name, value in found.items() if value is not None}
        return Objective(**instantiate(given, _convert_="all"))

    def refine(
        self, images: Tensor, classifier: FrozenClassifier, *, steps: int, **settings: Any
    ) -> Refinement:
        """Improve the explanation of each image by optimising it alone, from the encoder's answer.

        Args:
            images: In [0, 1], (B, 3, H, W).
            classifier: That this explainer explains; it follows the images' device.
            steps: Gradient steps.
            settings: See :func:`saliency_vae.models.refinement.refine`.
        """
        _check(images)
        classifier = _beside(classifier, images)
        if self.is_conditional and self._attached is None:
            self.attach_classifier(classifier)
        with torch.no_grad():
            signals = self.signals(images)
            prior = self.prior(images, signals)
            posterior = self.infer(images, prior, signals)
        refinement = refine(
            posterior,
            images,
            classifier,
            **{
                "objective": self.objective(),
                "prior": prior,
                "steps": steps,
                **settings,
            },
        )
        refinement.posterior.estimate_confidence = posterior.estimate_confidence
        return refinement

    @torch.no_grad()
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribute as Captum does: the posterior mean, the same in every channel.

        Args:
            inputs: Images in [0, 1], (B, 3, H, W); tensor in, tensor out, tuple in, tuple out.
            target: Accepted and not used: the whole prediction is explained, not one class.
        """
        if isinstance(inputs, tuple):
            return tuple(self._attribution(images) for images in inputs)
        return self._attribution(inputs)

    def _attribution(self, images: Tensor) -> Tensor:
        mean: Tensor = self(images).mean
        return mean.to(images.dtype).unsqueeze(1).expand_as(images).contiguous()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **download: Any
    ) -> "Explainer":
        """Load as :func:`load_explainer` does, and nothing else: no second reading of the files."""
        return load_explainer(pretrained_model_name_or_path, **download)

    def generate_model_card(self) -> ModelCard:
        """Make the page that the Hugging Face Hub shows."""
        return ModelCard(model_card(self.config, figure=self.figure is not None))

    def _save_pretrained(self, save_directory: Path) -> None:
        save_explainer(self, save_directory)


def _check(images: Tensor) -> None:
    """Refuse images whose explanation would mean nothing, as of those normalised already."""
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "Expected images (B, 3, H, W) of floating point. "
            f"Found shape {tuple(images.shape)} of {images.dtype}."
        )
    low, high = images.detach().aminmax() if images.numel() else (torch.zeros(()),) * 2
    if not (low >= -_BEYOND and high <= 1 + _BEYOND):  # NaN too
        raise ValueError(
            "Expected images in [0, 1]; the classifier normalises them itself. "
            f"Found values from {low:.3g} to {high:.3g}."
        )


def _beside(classifier: FrozenClassifier, images: Tensor) -> FrozenClassifier:
    """Move a classifier to the images' device, if it is on another."""
    if classifier.mean.device != images.device:
        with torch.inference_mode(False):  # what is moved in it knows no gradient
            classifier.to(images.device)
    return classifier


def save_explainer(explainer: Explainer, directory: Path) -> None:
    """Write an explainer so that :func:`load_explainer` reads it, its batch norms folded.

    Args:
        explainer: To save, with its ``config`` and ``figure``.
        directory: Made if needed.

    Raises:
        ValueError: If it was put together by hand, without a configuration.
        OSError: If it cannot be written; an earlier explainer is untouched.
    """
    config = explainer.config
    if explainer.learned_correlation is not None:
        one, *more = explainer.learned_correlation.tolist()
        fixed = {"correlation": [one, *more] if more else one, "learn_correlation": False}
        config = replace(config, prior={**config.prior, **fixed})
    write_directory(directory, config, _networks(explainer).state_dict(), explainer.figure)


def _networks(explainer: Explainer) -> nn.ModuleDict:
    """What of an explainer is kept: its networks, their batch norms folded."""
    kept = {"encoder": explainer.encoder, "confidence": explainer.confidence}
    return nn.ModuleDict({k: fold_batch_norm(v) for k, v in kept.items() if v is not None})


def load_explainer(path_or_hub_id: str | Path, **download: Any) -> Explainer:
    """Load an explainer, ready for use on the CPU: in eval mode, its batch norms folded.

    Args:
        path_or_hub_id: Directory that training wrote as ``explainer/``, or ``owner/name`` on the
            Hugging Face Hub, looked up where there is no such directory.
        download: Options of ``huggingface_hub.snapshot_download``, such as ``revision``.

    Raises:
        ValueError: If there is no intact explainer.
    """
    directory = find_directory(path_or_hub_id, download)
    config = read_config(directory)
    try:
        explainer = Explainer.from_config(config)
        networks = _networks(explainer)
    except Exception as error:  # whatever its parts make of wrong arguments
        raise ValueError(
            f"Expected {directory / CONFIG} to describe an explainer. Found {described(error)}."
        ) from None
    try:
        networks.load_state_dict(load_file(directory / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"Expected {directory / WEIGHTS} to hold the networks of its {CONFIG}. "
            f"Found {described(error)}."
        ) from None
    for name, network in networks.items():
        setattr(explainer, name, network)
    figure = directory / FIGURE
    explainer.figure = figure if figure.is_file() else None
    # A third faster on CPUs: pooling, upsampling and ReLU then read memory in order.
    explainer.to(memory_format=torch.channels_last)
    return explainer.eval().requires_grad_(False)
