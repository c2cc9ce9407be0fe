"""An explainer: images in, a distribution over their saliency maps out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, get_args, overload

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from hydra.utils import instantiate
from torch import Tensor, nn

from saliency_vae.classifiers import (
    FrozenClassifier,
    Target,
    as_target,
    check_frozen,
    check_logits,
)
from saliency_vae.distributions import (
    ExponentialPrior,
    Family,
    SaliencyPosterior,
    SaliencyPrior,
    make_posterior,
)
from saliency_vae.models.conditional_encoder import (
    ConditionalEncoder,
    Signals,
)
from saliency_vae.models.confidence import ConfidenceNetwork, kept_view, measured_confidence
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.images import check_images
from saliency_vae.models.model_card import model_card
from saliency_vae.models.recorded_explainer import RecordedExplainer
from saliency_vae.models.refinement import Refinement, RefinementSettings, refine, spread
from saliency_vae.models.universal_signals import UniversalSignals
from saliency_vae.objective import Objective
from saliency_vae.runtime.autograd import recording_gradients
from saliency_vae.visualization import Explanation

_MOST_PRIORS = 8  # most priors in the cache, one per image size and device


class Explainer(RecordedExplainer, PyTorchModelHubMixin):
    """Maps images to a posterior over their saliency maps.

    Args:
        encoder: Network from images (B, 3, H, W), and for a classifier-conditioned encoder its
            :class:`Signals`, to mean and log-variance (B, 2, H, W).
        prior: Function that makes the prior over maps from ``(height, width, device=...)``.
        posterior: Family of the posterior: ``mean_field`` (independent pixels, as in the paper) or
            ``correlated`` (with the prior's correlation).
        confidence: Network that estimates ``posterior.confidence``; None for none. A
            classifier-conditioned encoder needs none, as its confidence is then measured.

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
        super().__init__(encoder)
        if posterior not in get_args(Family):
            raise ValueError(f"Expected posterior mean_field or correlated. Found {posterior!r}.")
        prior(2, 2)  # raises for bad parameters now rather than at the first image
        self.posterior = posterior
        self.confidence = confidence
        self.make_prior = prior
        self._fixed_priors: dict[tuple[int, int, torch.device], SaliencyPrior] = {}

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

    def add_confidence(self, node: dict[str, Any]) -> None:
        """Build the confidence network from a Hydra node, and record the node."""
        self.confidence = instantiate(node, _convert_="all")
        self.record(confidence=node)

    def signals(
        self,
        images: Tensor,
        target: Target | None = None,
        *,
        classifier: FrozenClassifier | None = None,
    ) -> Signals | None:
        """Extract the classifier's signals for images (B, 3, H, W).

        Args:
            images: Images in [0, 1], (B, 3, H, W).
            target: Target to explain; None for the decision.
            classifier: Classifier on the images' device; by default :attr:`classifier`.

        Returns:
            Signals; None if the encoder sees only the image.

        Raises:
            ValueError: If there is no classifier to extract them from, see :attr:`classifier`,
                or this explainer cannot explain the given target.
        """
        if target is not None:
            self._refuse_target()
        if not isinstance(self.encoder, ConditionalEncoder):
            return None
        classifier = _beside(self.classifier, images) if classifier is None else classifier
        signals: Signals = self.encoder.signals(images, classifier, target)
        return signals

    def checked_signals(self, images: Tensor, asked: object) -> Signals | None:
        """Extract the signals for a user's target, and check the classifier's output.

        Args:
            images: Images in [0, 1], (B, 3, H, W).
            asked: The user's target, see :func:`as_target`; None for the decision.

        Raises:
            ValueError: If the classifier does not return logits, or no finite ones for its
                first images; if it does not have a name per class; or as :meth:`signals` does.
        """
        signals = self.signals(images, self.target(asked))
        if isinstance(signals, UniversalSignals) and not self._gives_logits:
            # Only until it is known, as the check waits for a GPU.
            self._gives_logits = check_logits(signals.logits, self.classifier)
        return signals

    @property
    def learned_correlation(self) -> Tensor | None:
        """Correlation of the prior as learned so far, (1,) or (2,); None if it is fixed."""
        return self.make_prior.learned if isinstance(self.make_prior, ExponentialPrior) else None

    def prior(self, images: Tensor, signals: Signals | None = None) -> SaliencyPrior:
        """Prior p(s) over the maps of images (B, 3, H, W), shared by all images of one size.

        With a conditional encoder and signals, each image has a prior mean of its own.
        """
        prior = self._shared_prior(images)
        if signals is None or not isinstance(self.encoder, ConditionalEncoder):
            return prior
        mean = self.encoder.prior_mean(signals)
        return prior if mean is None else prior.around(mean)

    def _shared_prior(self, images: Tensor) -> SaliencyPrior:
        """Cached prior for each size and device; made anew while its correlation is learned."""
        height, width = images.shape[-2:]
        key = height, width, images.device
        prior = self._fixed_priors.get(key)
        if prior is None:
            with recording_gradients():  # it may be used in training later
                prior = self.make_prior(height, width, device=images.device)
            if self.learned_correlation is None:
                recent = list(self._fixed_priors.items())[1 - _MOST_PRIORS :]
                self._fixed_priors = dict([*recent, (key, prior)])
        return prior

    def forward(self, images: Tensor, target: object = None) -> SaliencyPosterior:
        """Explain images.

        Args:
            images: Images in [0, 1], (B, 3, H, W), H, W >= 16, of any floating point type.
            target: Target of a universal explainer, see :func:`as_target`: a class index or name,
                one per image (B,), or a function from the logits to a score; None for the
                classifier's decision.

        Returns:
            Posterior q(s|x), batch shape (B,), event shape (H, W), float32.

        Raises:
            ValueError: If the images are not floating-point (B, 3, H, W) in [0, 1], or this
                explainer cannot explain the target.
        """
        if torch.compiler.is_compiling():
            return self.encode(images, target=self.target(target))
        images = self._checked(images)
        return self.encode(images, signals=self.checked_signals(images, target))

    def _checked(self, images: Tensor) -> Tensor:
        """Check images given by the user, and cast them to the encoder's precision."""
        check_images(images)
        like = next(self.encoder.parameters(), images)
        if like.device != images.device:
            raise ValueError(
                f"Expected images on {like.device}, where the explainer is. Found them on "
                f"{images.device}: images.to({str(like.device)!r}), or move the explainer."
            )
        return images.to(like.dtype)

    def target(self, asked: object) -> Target | None:
        """Convert the user's target with :func:`as_target`.

        Raises:
            ValueError: If this explainer explains only the decision of its classifier.
        """
        if asked is None:
            return None
        self._refuse_target()
        return as_target(asked, self.classifier.categories, self.classifier.output)

    def _refuse_target(self) -> None:
        if not self.is_universal:
            raise ValueError(
                "Expected target=None: this explainer explains the decision of its classifier "
                "alone. Found a target, which a universal explainer can be asked about."
            )

    def encode(
        self,
        images: Tensor,
        prior: SaliencyPrior | None = None,
        signals: Signals | None = None,
        target: Target | None = None,
    ) -> SaliencyPosterior:
        """Encode images to their posterior q(s|x), without checking their range.

        The check would wait for the device. Use this for images that are known to be in [0, 1], and
        for images with added noise.

        Args:
            images: Images, (B, 3, H, W), H, W >= 16.
            prior: Prior of these images and signals, if already made.
            signals: Classifier signals of these images, if already extracted.
            target: Target to explain, used if no signals are given; None for the decision.
        """
        signals = self.signals(images, target) if signals is None else signals
        prior = self.prior(images, signals) if prior is None else prior
        mean, log_variance = self.mean_and_log_variance(images, signals)
        posterior = make_posterior(self.posterior, mean, log_variance, prior)
        if isinstance(signals, UniversalSignals):
            posterior.signal_spread = signals.spread
        posterior.estimate_confidence = self.confidence_of(images, signals)
        if self.confidence is not None:
            posterior.find_out_of_depth = partial(self.out_of_depth, images)
        return posterior

    def confidence_of(
        self, images: Tensor, signals: Signals | None
    ) -> Callable[[SaliencyPosterior], Tensor] | None:
        """Make a function from a posterior to its confidence, estimated or measured.

        Args:
            images: Images in [0, 1], (B, 3, H, W).
            signals: Classifier signals of these images, if the encoder uses any.

        Returns:
            Function that returns (B,); None with neither a confidence network nor signals.
        """
        if self.confidence is not None:
            return partial(self.estimate_confidence, images)
        if signals is None:
            return None
        # Bound now, as another classifier may be attached before confidence is computed.
        return partial(self._measure_confidence, images, signals, self._attached)

    def _measure_confidence(
        self,
        images: Tensor,
        signals: Signals,
        attached: tuple[FrozenClassifier] | None,
        posterior: SaliencyPosterior,
    ) -> Tensor:
        (classifier,) = attached or (self.classifier,)
        return measured_confidence(_beside(classifier, images), images, signals, posterior)

    def mean_and_log_variance(
        self, images: Tensor, signals: Signals | None
    ) -> tuple[Tensor, Tensor]:
        """Encode images to the mean mu and log-variance eta of their maps, (B, H, W), float32."""
        encoded = self.encoder(images) if signals is None else self.encoder(images, signals)
        mean, log_variance = encoded.float().unbind(1)
        return mean, log_variance

    def estimate_confidence(self, images: Tensor, posterior: SaliencyPosterior) -> Tensor:
        """Estimate the probability that the kept view preserves the classifier's decision.

        The kept view shows the most salient 5 % of the pixels over a blur.

        Args:
            images: Images in [0, 1], (B, 3, H, W).
            posterior: Posterior of these images, by this explainer or refined.

        Returns:
            Probability, (B,).

        Raises:
            ValueError: If this explainer has no confidence network.
        """
        if self.confidence is None:
            raise ValueError("Expected an explainer with a confidence network. Found none.")
        confidence: Tensor = self.confidence(images, kept_view(images, posterior))
        return confidence

    def out_of_depth(self, images: Tensor) -> Tensor:
        """Detect images so unlike the training images that their confidence is a guess.

        Args:
            images: Images in [0, 1], (B, 3, H, W).

        Returns:
            Whether each image is out of depth, (B,) bool, as one in twenty validation images was.

        Raises:
            ValueError: If there is no confidence network, or its detector is not fitted.
        """
        if self.confidence is None or not self.confidence.depth.is_known:
            raise ValueError(
                "Expected an explainer whose confidence network knows what the training's images "
                "are like. Found none: a confidence that is measured needs none, and those of "
                "earlier versions, or of fewer than 20 validation images, do not know."
            )
        return self.confidence.out_of_depth(images)

    @overload
    def explain(
        self, photographs: list[Any] | tuple[Any, ...], target: object = None, **settings: Any
    ) -> list[Explanation]: ...

    @overload
    def explain(
        self, photographs: object, target: object = None, **settings: Any
    ) -> Explanation: ...

    def explain(
        self, photographs: object, target: object = None, **settings: Any
    ) -> Explanation | list[Explanation]:
        """Explain photographs, and measure on the classifier how good each explanation is.

        The classifier's preprocessing (resize and crop) is applied to every photograph, also to
        tensors and arrays, whose values are rounded to 8 bits, 0 to 255. All computation is on the
        explainer's device.

        Args:
            photographs: A file, a PIL image, an array (H, W, 3) or (3, H, W), uint8 or in [0, 1],
                or such a tensor (3, H, W); a list of them for a list of explanations.
            target: Target of a universal explainer: a class name or index, or a function of the
                logits; None for the classifier's decision.
            settings: ``fraction`` of the pixels shown in the kept view, .1 by default; number of
                ``samples`` drawn from the posterior, 0; their ``seed``, 0; ``refine_steps`` that
                optimise each explanation separately, 0; ``baseline``, a module that makes the
                baseline images, such as ``saliency_vae.perturbations.Mean()``: by default that of
                the training, for a universal explainer a blur.

        Raises:
            OSError: If a file is missing or not an image.
            ValueError: If an argument is invalid, such as a normalised tensor; if the
                photograph is too small; or if there is no classifier.

        Example:
            >>> from saliency_vae import FrozenClassifier, load_explainer
            >>> network = nn.Sequential(nn.Conv2d(3, 2, 8, 8), nn.Flatten(), nn.Linear(32, 2))
            >>> classifier = FrozenClassifier(network, name="small", categories=["cat", "dog"])
            >>> explainer = load_explainer("universal", classifier)
            >>> explanation = explainer.explain(torch.rand(3, 32, 32), target="dog")
            >>> explanation.target, explanation.mean.shape, explanation.plot().height
            ('dog', (32, 32), 386)
        """
        from saliency_vae import explain_photographs  # a higher layer, so not imported at the top

        return explain_photographs(self, photographs, target, **settings)

    def refine(
        self,
        images: Tensor,
        classifier: FrozenClassifier,
        *,
        target: object = None,
        objective: Objective | None = None,
        **settings: Any,
    ) -> Refinement:
        """Improve each image's posterior by optimising it separately, starting from the encoder's.

        Args:
            images: Images in [0, 1], (B, 3, H, W).
            classifier: Classifier to explain; moved to the images' device, attached if needed.
            target: Target of a universal explainer, as in a call.
            objective: Objective to minimise; by default that of the training over :meth:`baseline`,
                for a universal explainer in its bounded form, see :meth:`Objective.bounded`.
            settings: Fields of :class:`RefinementSettings`, such as ``steps``. A universal
                explainer defaults to one sample per step, a learning rate of .005 and one
                evaluation: n steps take 2n + 6 passes of the classifier, and its signals two.
        """
        images = self._checked(images)
        check_frozen(classifier)
        classifier = _beside(classifier, images)
        if self.is_conditional and self._attached != (classifier,):
            self.attach_classifier(classifier)
        with torch.no_grad():
            signals = self.checked_signals(images, target)
            prior = self.prior(images, signals)
            posterior = self.encode(images, prior, signals)
        if signals is not None and signals.target is None and target is not None:
            raise ValueError(
                "Expected a class, or weights of the logits, as target of a refinement. "
                "Found a score."
            )
        defaults = {"lr": 0.005, "samples": 1, "evaluations": 1} if self.is_universal else {}
        refinement = refine(
            posterior,
            images,
            classifier,
            objective=objective or self._objective_of_refinement(),
            prior=prior,
            settings=RefinementSettings(**defaults | settings),
            target=None if signals is None else signals.target,
            scale=spread(posterior) if self.is_universal else 1.0,
        )
        refinement.posterior.estimate_confidence = posterior.estimate_confidence
        refinement.posterior.find_out_of_depth = posterior.find_out_of_depth
        refinement.posterior.signal_spread = posterior.signal_spread
        return refinement

    def _objective_of_refinement(self) -> Objective:
        objective = self.objective(self.baseline())
        return objective.bounded() if self.is_universal else objective

    @torch.no_grad()
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribution as in Captum: the posterior mean, repeated for every channel.

        Args:
            inputs: Images in [0, 1], (B, 3, H, W), or a tuple of such; the result has that form.
            target: Target to explain, as in a call; None for the decision.

        Raises:
            ValueError: If this explainer cannot explain the given target.
        """
        if isinstance(inputs, tuple):
            return tuple(self._attribution(images, target) for images in inputs)
        return self._attribution(inputs, target)

    def _attribution(self, images: Tensor, target: object) -> Tensor:
        mean: Tensor = self(images, target).mean
        return mean.to(images.dtype).unsqueeze(1).expand_as(images).contiguous()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, **download: Any
    ) -> "Explainer":
        """Load an explainer, see :func:`load_explainer`."""
        from saliency_vae.models.serialization import load_explainer  # a circular import at the top

        return load_explainer(pretrained_model_name_or_path, **download)

    def generate_model_card(self) -> ModelCard:
        """Make the model card that the Hugging Face Hub shows."""
        kind = {"conditional": self.is_conditional, "universal": self.is_universal}
        return ModelCard(model_card(self.config, figure=self.figure is not None, **kind))

    def _save_pretrained(self, save_directory: Path) -> None:
        from saliency_vae.models.serialization import save_explainer  # likewise

        save_explainer(self, save_directory)


def _beside(classifier: FrozenClassifier, images: Tensor) -> FrozenClassifier:
    """Move a classifier to the images' device, if it is on another."""
    if classifier.mean.device != images.device:
        with recording_gradients():
            classifier.to(images.device)
    return classifier
