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

    Gradients do flow *through* it, into the image. Its ``network`` is a copy of the modules that
    shares the memory of the weights, see :func:`frozen_alias`. The network that is passed stays
    unchanged and can be trained further. The classifier follows this training until either is moved
    to another device, type or memory format. Pass ``copy.deepcopy(network)`` to keep the classifier
    as it is now.

    :meth:`from_transformers`, :meth:`from_timm` and :meth:`from_torchvision` fill in all arguments
    after the network.

    Args:
        network: Network that maps normalised images (B, 3, H, W) to logits (B, classes), returned
            as a tensor or as ``logits`` of a Hugging Face output.
        name: Name of the architecture, for the classifier's identity; by default that of the
            network's class.
        weights: Name of the weights, for the classifier's identity.
        mean: Value subtracted from each channel of images in [0, 1].
        std: Value that each channel is divided by after that, > 0.
        output: ``softmax`` for one class of many; ``sigmoid`` for independent labels or a single
            logit.
        preprocessing: Preprocessing of image files; by default their pixels are taken as they are.
        categories: Names of the classes.

    Raises:
        ValueError: If the network is not a module or cannot be copied, mean or std are not 3
            numbers for images in [0, 1], a std is not positive, output is unknown, preprocessing is
            of another type, or categories are not a list of names.

    Example:
        >>> network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))
        >>> classifier = FrozenClassifier(network, name="linear", mean=(0.5,) * 3, std=(0.2,) * 3)
        >>> classifier(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    mean: Tensor
    std: Tensor
    channels_last: bool | None = None  # whether inputs are channels-last; None: untried

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

        Mean, standard deviation and preprocessing are taken from the image processor, and checked
        against it on images. Where the crop cuts an odd number of pixels, it may be one pixel off
        the processor's.

        Args:
            model: Model, such as from ``AutoModelForImageClassification.from_pretrained(name)``.
            processor: Its image processor, ``AutoImageProcessor.from_pretrained(name)``.
            name: Name for the classifier's identity; by default where the model was loaded from.
            output: Kind of output; None to take it from the model's configuration.

        Raises:
            ValueError: If this package's preprocessing cannot reproduce the processor's.
        """
        from saliency_vae.classifiers.hugging_face import wrap_transformers  # circular

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
            model: Model, such as from ``timm.create_model(name, pretrained=True)``.
            name: Name for the classifier's identity; by default the architecture's.
            output: Kind of output.
            categories: Names of the classes; by default those of its weights, or of the ImageNet
                variant with as many classes.

        Raises:
            ValueError: If this package's preprocessing cannot reproduce timm's.
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
        """Wrap a torchvision model with the preprocessing and categories of its weights.

        Args:
            weights: Weights such as ``ResNet50_Weights.IMAGENET1K_V2``, or their name; or the name
                of a model, such as ``resnet50``, for its default weights.
            network: Model that has these weights; by default it is built, and the weights are
                downloaded unless they are in torch's cache.
            output: Kind of output.

        Raises:
            ValueError: If there is no such model, or the weights are not available.
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
        """Unchecked logits for images (B, 3, H, W), without ``torch.compile``.

        Use it with hooks, because compiled modules do not call hooks that are added later, and for
        a few images that are classified only once and are not worth a compilation.
        """
        count_passes(images.shape[0])  # len() would fix the batch size of an export
        network = getattr(self.network, "_orig_mod", self.network)
        return _logits(network._call_impl(self._normalised(images)))

    def prefer_channels_last(self, images: Tensor) -> None:
        """On a CPU, pass images to the network in channels-last format, if it accepts them.

        A pass of many views is then up to 1.4 times as fast. Networks that reshape feature maps by
        ``view`` do not accept this format.

        Args:
            images: Images in [0, 1] that the classifier takes, (B, 3, H, W). The first is tried as
                a batch of two copies, because ``view`` may work for a batch of one only.
        """
        if self.channels_last is None and images.device.type == "cpu":
            self.channels_last = True
            try:
                with torch.no_grad():  # no inference mode: a network may store tensors
                    self.network(self._normalised(images[:1].repeat(2, 1, 1, 1)))
            except Exception:  # user code; a real error will show in later passes
                self.channels_last = False

    def _normalised(self, images: Tensor) -> Tensor:
        normalised = (images.to(self.mean.dtype) - self.mean) / self.std
        if self.channels_last:
            return normalised.contiguous(memory_format=torch.channels_last)
        return normalised

    def divergence(self, target: Tensor, prediction: Tensor) -> Tensor:
        """KL(y || y') between two predictions, the reconstruction term.

        Args:
            target: Logits of y, (B, classes).
            prediction: Logits of y', (B, classes).

        Returns:
            Divergence, (B,), nats per image.
        """
        kl = categorical_kl if self.output == "softmax" else bernoulli_kl
        return kl(target, prediction)

    def total_variation(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Total variation distance of two predictions, a bounded alternative to the divergence.

        Args:
            target: Logits of y, (B, classes).
            prediction: Logits of y', (B, classes).

        Returns:
            Distance, (B,), in [0, 1]; for independent labels the mean of theirs.
        """
        if self.output == "softmax":
            return (target.softmax(-1) - prediction.softmax(-1)).abs().sum(-1) / 2
        return (target.sigmoid() - prediction.sigmoid()).abs().mean(-1)

    def decide(self, logits: Tensor) -> Tensor:
        """Express the classifier's decision on logits (B, classes) as a target.

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

        For several labels, they are summed. Unlike probabilities, they do not saturate.

        Example:
            >>> classifier = FrozenClassifier(nn.Identity(), output="softmax")
            >>> classifier.log_odds(torch.tensor([[0.0, 3.0]]), torch.tensor([[0.0, 1.0]]))
            tensor([3.])
        """
        return self.each_log_odds(logits, target).sum(-1)

    def each_log_odds(self, logits: Tensor, target: Tensor) -> Tensor:
        """Log-odds of the target's class, (B, 1), or of each of its labels, (B, labels).

        They are 0 for labels that are not part of the target.
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

        For several labels, their joint probability.

        Example:
            >>> classifier = FrozenClassifier(nn.Identity(), output="sigmoid")
            >>> classifier.probability(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]))
            tensor([0.2500])
        """
        if self.output == "sigmoid":
            return self.log_probability(logits, target).exp()
        return logits.softmax(-1).gather(-1, target.argmax(-1, keepdim=True)).squeeze(-1)

    def keeps_decision(self, logits: Tensor, target: Tensor) -> Tensor:
        """Whether the decision on logits (B, classes) matches a target (B, classes): (B,) bool.

        For a softmax, the target's class must be the most probable one. For independent labels,
        each label of the target must lie on the side of 1/2 that its sign gives.
        """
        if self.output == "softmax":
            return logits.argmax(-1) == target.argmax(-1)
        return (((logits > 0) == (target > 0)) | (target == 0)).all(-1)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Whether two predictions, logits (B, classes), give the same decision: (B,) bool."""
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
        """Check that there is one category name for each class.

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
        """Identity of this classifier, recorded by an explainer that is trained for it."""
        return ClassifierIdentity(
            name=self.name,
            weights=self.weights,
            output=self.output,
            mean=tuple(self.mean.flatten().tolist()),
            std=tuple(self.std.flatten().tolist()),
            sha256=parameter_hash(self.network),
        )


class WrongOutputError(ValueError):
    """The output of a network cannot be logits, whatever the image."""


def as_logits(output: object, kind: Output, images: int) -> Tensor:
    """Return a network's output for B ``images`` if it can be logits (B, classes).

    Raises:
        WrongOutputError: If it is not a tensor of this shape, or a softmax has a single class.
    """
    if not isinstance(output, Tensor):
        raise _wrong_output(type(output).__name__, kind)
    if output.ndim != 2 or (kind == "softmax" and output.shape[1] < 2):
        raise _wrong_output(f"shape {tuple(output.shape)}", kind)
    if output.shape[0] != images:
        raise _wrong_output(f"shape {tuple(output.shape)} for {images} images", kind)
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
    # Values for images in [0, 255] would make all images black. NaN is refused, too.
    if not (np.max(mean) <= 2 and np.max(std) <= 10):
        raise ValueError(
            "Expected classifier.mean and classifier.std of images in [0, 1]. "
            f"Found {mean} and {std}: divide both by 255 if they are of images in [0, 255]."
        )


def _check_names(categories: object) -> None:
    """Refuse a string or a dictionary, which do not iterate over the names."""
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
    """Extract the logits of a Hugging Face output; return any other output unchanged."""
    return output if isinstance(output, Tensor) else getattr(output, "logits", output)


def _input_like(network: nn.Module) -> Tensor:
    """One of a network's weights, which has the device and dtype of its inputs."""
    floating = (p for p in network.parameters() if p.is_floating_point())
    return next(floating, torch.empty(0))


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(list(values), dtype=like.dtype, device=like.device)[:, None, None]
