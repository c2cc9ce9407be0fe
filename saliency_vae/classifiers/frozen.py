"""The frozen classifier M: it takes images in [0, 1], normalises them itself, and gives logits."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saliency_vae.classifiers.aliased import frozen_alias
from saliency_vae.classifiers.divergences import bernoulli_kl, categorical_kl
from saliency_vae.classifiers.identity import ClassifierIdentity, parameter_hash
from saliency_vae.classifiers.passes import count_passes
from saliency_vae.classifiers.targets import Output, class_target
from saliency_vae.data import Preprocessing

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


class FrozenClassifier(nn.Module):
    """A classifier that is never trained: always in eval mode, no parameter requires a gradient.

    Gradients do flow *through* it, into the image. ``network`` is a copy of the modules that shares
    the memory of the weights, see :func:`frozen_alias`: the network that is passed stays as it was,
    and can be trained further, which the classifier follows until either is moved to another
    device, type or memory format. ``copy.deepcopy(network)`` keeps the classifier as it is now.

    :meth:`from_transformers`, :meth:`from_timm` and :meth:`from_torchvision` fill in all that
    follows the network.

    Args:
        network: Network that maps normalised images (B, 3, H, W) to logits (B, classes), alone or
            as ``logits`` of an output of Hugging Face.
        name: Name of the architecture, for the classifier's identity; by default that of the
            network's class.
        weights: Name of the weights, for the classifier's identity.
        mean: Value subtracted from each channel of images in [0, 1].
        std: Value that each channel is divided by after that, > 0.
        output: ``softmax`` for one class of many; ``sigmoid`` for independent labels, also for a
            single logit.
        preprocessing: Preprocessing of image files; by default their pixels are taken as they are.
        categories: Names of the classes.

    Raises:
        ValueError: If the network is no module or cannot be copied, mean or std are not 3 numbers
            of images in [0, 1], a std is not positive, output is unknown, or categories are no
            list of names.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
        >>> classifier = FrozenClassifier(network, name="linear", mean=(0.5,) * 3, std=(0.2,) * 3)
        >>> classifier(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor
    channels_last: bool | None = None  # whether the network gets images so; None for untried

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str | None = None,
        weights: str | None = None,
        mean: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
        std: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
        output: Output = "softmax",
        preprocessing: Preprocessing | None = None,
        categories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        _check_network(network)
        mean, std = _numbers(mean), _numbers(std)
        _check_normalisation(mean, std)
        _check_names(categories)
        if not isinstance(preprocessing, Preprocessing | None):
            raise ValueError(
                "Expected classifier.preprocessing to be a saliency_vae.Preprocessing, such as "
                "Preprocessing(resize_size=256, crop_size=(224, 224)). "
                f"Found {type(preprocessing).__name__}."
            )
        if output not in ("softmax", "sigmoid"):
            raise ValueError(f"Expected classifier.output softmax or sigmoid. Found {output!r}.")
        self.network = frozen_alias(network)
        like = _input_like(network)
        self.register_buffer("mean", _per_channel(mean, like), persistent=False)
        self.register_buffer("std", _per_channel(std, like), persistent=False)
        self.output = output
        self.preprocessing = preprocessing or Preprocessing()
        self.name = name or type(network).__name__
        self.weights = weights
        self.categories = categories
        self.eval()

    @classmethod
    def from_transformers(
        cls,
        model: nn.Module,
        processor: Any,
        *,
        name: str | None = None,
        output: Output | None = None,
    ) -> "FrozenClassifier":
        """Wrap an image classifier of Hugging Face's transformers.

        Mean, standard deviation and preprocessing are those of the image processor, which is
        compared with ours on images. Where the crop cuts an odd number of pixels it may begin one
        pixel beside the processor's.

        Args:
            model: Model such as ``AutoModelForImageClassification.from_pretrained(name)`` gives.
            processor: Its image processor, ``AutoImageProcessor.from_pretrained(name)``.
            name: Name for the classifier's identity; by default where the model was loaded from.
            output: Kind of output; None for what the model says of itself.

        Raises:
            ValueError: If the processor does what this package's preprocessing cannot do.
        """
        from saliency_vae.classifiers.hugging_face import wrap_transformers  # it builds this class

        return wrap_transformers(model, processor, name=name, output=output)

    @classmethod
    def from_timm(
        cls,
        model: nn.Module,
        *,
        name: str | None = None,
        output: Output = "softmax",
        categories: Sequence[str] | None = None,
    ) -> "FrozenClassifier":
        """Wrap a model of timm with the preprocessing of its ``pretrained_cfg``.

        Args:
            model: Model such as ``timm.create_model(name, pretrained=True)`` gives.
            name: Name for the classifier's identity; by default the architecture's.
            output: Kind of output.
            categories: Names of the classes; by default those of its weights, or of the ImageNet
                with so many classes.

        Raises:
            ValueError: If timm preprocesses its images as this package's preprocessing cannot.
        """
        from saliency_vae.classifiers.timm_models import wrap_timm  # likewise

        return wrap_timm(model, name=name, output=output, categories=categories)

    @classmethod
    def from_torchvision(
        cls,
        weights: "WeightsEnum | str",
        network: nn.Module | None = None,
        *,
        output: Output = "softmax",
    ) -> "FrozenClassifier":
        """Wrap a classification model of torchvision with all that its weights say.

        Args:
            weights: Weights such as ``ResNet50_Weights.IMAGENET1K_V2``, or their name; or the name
                of a model, such as ``resnet50``, for its default weights.
            network: Model that has these weights; by default it is built, and they are downloaded
                unless they are in torch's cache.
            output: Kind of output.

        Raises:
            ValueError: If there is no such model, or the weights are not to be had.
        """
        from saliency_vae.classifiers.torchvision_models import wrap_torchvision  # likewise

        return wrap_torchvision(weights, network, output=output)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever the argument."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W) in [0, 1]: logits (B, classes).

        Raises:
            WrongOutputError: If the network returns no tensor.
        """
        count_passes(images.shape[0])  # len() would fix the batch size of an export
        logits = _logits(self.network(self._normalised(images)))
        if not isinstance(logits, Tensor):
            raise _wrong_output(type(logits).__name__, self.output)
        return logits.float()

    def forward_uncompiled(self, images: Tensor) -> Any:
        """Logits as the network gives them for images (B, 3, H, W), without ``torch.compile``.

        Hooks need it, as compiled modules call none that came later, and a few images that are
        classified once are not worth a compilation.
        """
        count_passes(images.shape[0])  # len() would fix the batch size of an export
        network = getattr(self.network, "_orig_mod", self.network)
        return _logits(network._call_impl(self._normalised(images)))

    def prefer_channels_last(self, images: Tensor) -> None:
        """On a CPU, pass images to the network channels-last from now on, if it takes them so.

        A pass of many views is up to 1.4 times as fast by it. Networks that reshape feature maps by
        ``view`` do not take them.

        Args:
            images: Images in [0, 1] that the classifier takes, (B, 3, H, W); the first is tried,
                twice in one batch, because a ``view`` may take a batch of one alone.
        """
        if self.channels_last is None and images.device.type == "cpu":
            self.channels_last = True
            try:
                with torch.no_grad():  # no inference mode: a network may keep what it makes
                    self.network(self._normalised(images[:1].repeat(2, 1, 1, 1)))
            except Exception:  # of somebody's own network, which says it again where it matters
                self.channels_last = False

    def _normalised(self, images: Tensor) -> Tensor:
        normalised = (images.to(self.mean.dtype) - self.mean) / self.std
        if self.channels_last:
            return normalised.contiguous(memory_format=torch.channels_last)
        return normalised

    def divergence(self, target: Tensor, prediction: Tensor) -> Tensor:
        """KL(y || y') of two predictions, the reconstruction term.

        Args:
            target: Logits of y, (B, classes).
            prediction: Logits of y', (B, classes).

        Returns:
            Divergence, (B,), nats per image.
        """
        kl = categorical_kl if self.output == "softmax" else bernoulli_kl
        return kl(target, prediction)

    def decide(self, logits: Tensor) -> Tensor:
        """Target of the classifier's own decision on logits (B, classes).

        Returns:
            Target, (B, classes): one-hot for a softmax; for independent labels 1 where a label is
            more probable than not, and -1 elsewhere.

        Example:
            >>> logits = torch.tensor([[0.5, 2.0, -1.0]])
            >>> FrozenClassifier(nn.Identity(), output="softmax").decide(logits)
            tensor([[0., 1., 0.]])
            >>> FrozenClassifier(nn.Identity(), output="sigmoid").decide(logits)
            tensor([[ 1.,  1., -1.]])
        """
        if self.output == "softmax":
            return class_target(logits.argmax(-1), logits)
        return torch.where(logits > 0, 1.0, -1.0).to(logits.dtype)

    def log_odds(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log-odds that logits (B, classes) give to a target (B, classes): (B,), nats.

        Of several labels, summed over them. Unlike the probability they do not saturate.

        Example:
            >>> classifier = FrozenClassifier(nn.Identity(), output="softmax")
            >>> classifier.log_odds(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 1.0]]))
            tensor([3.])
        """
        return self.each_log_odds(logits, target).sum(-1)

    def each_log_odds(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log-odds of the class, (B, 1), or of each label, (B, labels), that is asked about.

        They are 0 for labels that are not asked about.
        """
        if self.output == "sigmoid":
            return logits * target
        asked = target.argmax(-1, keepdim=True)
        others = logits.scatter(-1, asked, -math.inf).logsumexp(-1, keepdim=True)
        return logits.gather(-1, asked) - others

    def log_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logarithm of :meth:`probability`, (B,), nats."""
        asked = target.abs() if self.output == "sigmoid" else 1.0
        return (F.logsigmoid(self.each_log_odds(logits, target)) * asked).sum(-1)

    def probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """Probability that logits (B, classes) give to a target (B, classes): (B,), in [0, 1].

        Of several labels, that of all together.

        Example:
            >>> classifier = FrozenClassifier(nn.Identity(), output="sigmoid")
            >>> classifier.probability(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]))
            tensor([0.2500])
        """
        if self.output == "sigmoid":
            return self.log_probability(logits, target).exp()
        return logits.softmax(-1).gather(-1, target.argmax(-1, keepdim=True)).squeeze(-1)

    def keeps_decision(self, logits: Tensor, target: Tensor) -> Tensor:
        """Whether logits (B, classes) decide as a target (B, classes) asks: (B,) bool.

        For a softmax the class asked about is the most probable one; of independent labels, each
        one asked about lies on the side of 1/2 that the target names.
        """
        if self.output == "softmax":
            return logits.argmax(-1) == target.argmax(-1)
        return (((logits > 0) == (target > 0)) | (target == 0)).all(-1)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Whether two predictions, logits (B, classes), are the same decision: (B,) bool."""
        return self.keeps_decision(second, self.decide(first))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities, in [0, 1], of logits (B, classes)."""
        return logits.softmax(-1) if self.output == "softmax" else logits.sigmoid()

    def top(self, logits: Tensor, number: int = 3) -> list[list[tuple[str, float]]]:
        """Names and probabilities of the most probable classes, for each image.

        Args:
            logits: Logits, (B, classes).
            number: Number of classes to name.

        Raises:
            ValueError: If there are more or fewer categories than classes.
        """
        self.check_categories(logits.shape[-1])
        values, indices = self.probabilities(logits).topk(min(number, logits.shape[-1]))
        return [
            [(self.category(index), value) for index, value in zip(*row, strict=True)]
            for row in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def check_categories(self, classes: int) -> None:
        """Refuse names that cannot be those of so many classes.

        Raises:
            ValueError: If there are more or fewer categories than classes.
        """
        if self.categories is not None and len(self.categories) != classes:
            raise ValueError(
                f"Expected {classes} categories, one for each class of {self.name}. "
                f"Found {len(self.categories)}."
            )

    def category(self, index: int) -> str:
        """Name of a class."""
        return f"class {index}" if self.categories is None else self.categories[index]

    def identity(self) -> ClassifierIdentity:
        """Identity of this classifier, which an explainer trained for it records."""
        return ClassifierIdentity(
            name=self.name,
            weights=self.weights,
            output=self.output,
            mean=tuple(self.mean.flatten().tolist()),
            std=tuple(self.std.flatten().tolist()),
            sha256=parameter_hash(self.network),
        )


class WrongOutputError(ValueError):
    """What a network returns cannot be logits, whatever the image."""


def as_logits(output: object, kind: Output) -> Tensor:
    """Refuse what a network returns if it cannot be logits (B, classes).

    Raises:
        WrongOutputError: If it is no tensor of this form, or has a single class for a softmax.
    """
    if not isinstance(output, Tensor):
        raise _wrong_output(type(output).__name__, kind)
    if output.ndim != 2 or (kind == "softmax" and output.shape[1] < 2):
        raise _wrong_output(f"shape {tuple(output.shape)}", kind)
    return output


def _wrong_output(found: str, kind: Output) -> WrongOutputError:
    classes = "classes >= 2" if kind == "softmax" else "labels"
    return WrongOutputError(
        f"Expected the classifier's network to return logits (B, {classes}). Found {found}: "
        "wrap it in a module that returns them; a single logit has output='sigmoid'."
    )


def _numbers(values: Sequence[float] | Tensor) -> Sequence[float]:
    numbers: Sequence[float] = values.tolist() if isinstance(values, Tensor) else values
    return numbers


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    if {np.shape(mean), np.shape(std)} != {(3,)} or min(std) <= 0:
        raise ValueError(
            "Expected classifier.mean and classifier.std of 3 numbers, std > 0. "
            f"Found {mean} and {std}."
        )
    # Those of images in [0, 255] would make all images black; NaN is refused, too.
    if not (np.max(mean) <= 2 and np.max(std) <= 10):
        raise ValueError(
            "Expected classifier.mean and classifier.std of images in [0, 1]. "
            f"Found {mean} and {std}: divide both by 255 if they are of images in [0, 255]."
        )


def _check_names(categories: object) -> None:
    """Refuse a text or a dictionary, whose items are not the names."""
    named = isinstance(categories, Sequence) and not isinstance(categories, str)
    if categories is None or (
        named and all(isinstance(name, str) for name in cast("Sequence[object]", categories))
    ):
        return
    hint = ", such as list(names.values())" if isinstance(categories, Mapping) else ""
    raise ValueError(
        f"Expected classifier.categories to be a list of the classes' names{hint}. "
        f"Found {type(categories).__name__}."
    )


def _check_network(network: object) -> None:
    if not isinstance(network, nn.Module) or isinstance(network, FrozenClassifier):
        raise ValueError(
            "Expected a network, an nn.Module that takes normalised images (B, 3, H, W). "
            f"Found {type(network).__name__}."
        )


def _logits(output: Any) -> Any:
    """Logits of an output of Hugging Face, any other output as it is."""
    return output if isinstance(output, Tensor) else getattr(output, "logits", output)


def _input_like(network: nn.Module) -> Tensor:
    """Tensor of the device and the precision that a network takes images in: one of its weights."""
    floating = (p for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.empty(0))


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(list(values), dtype=like.dtype, device=like.device)[:, None, None]
