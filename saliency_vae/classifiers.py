"""The frozen classifier to explain: any torchvision or timm model, or the user's own module.

A :class:`FrozenClassifier` takes images in [0, 1] and normalises them itself.
"""

import hashlib
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from saliency_vae.encoders import MINIMUM_SIZE
from saliency_vae.losses import Output, bernoulli_kl, categorical_kl
from saliency_vae.preprocessing import Preprocessing

# Two classifiers whose identities agree in these predict the same.
DECISIVE = ("sha256", "mean", "std", "output")


class FrozenClassifier(nn.Module):
    """A classifier that is never trained: always in eval mode, no parameter requires a gradient.

    Gradients do flow *through* it, into the image. The network is taken as it is, not copied: to
    go on training it, give ``copy.deepcopy(network)``.

    Args:
        network: Maps normalised images (B, 3, H, W) to logits (B, classes).
        name: Says which architecture, for its identity.
        weights: Says which weights, for its identity.
        mean: Subtracted from each channel.
        std: Divides each channel.
        output: ``softmax`` for one class of many; ``sigmoid`` for independent labels, also for a
            single logit.
        preprocessing: Of image files.
        categories: Names of the classes.

    Raises:
        ValueError: If a std is not positive or output is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        weights: str | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        output: Output = "softmax",
        preprocessing: Preprocessing | None = None,
        categories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                "Expected classifier.mean and classifier.std of 3 numbers, std > 0. "
                f"Found {list(mean)} and {list(std)}."
            )
        if output not in ("softmax", "sigmoid"):
            raise ValueError(f"Expected classifier.output softmax or sigmoid. Found {output!r}.")
        self.network = network.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(list(mean))[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(list(std))[:, None, None], persistent=False)
        self.output = output
        self.preprocessing = preprocessing or Preprocessing()
        self.name = name
        self.weights = weights
        self.categories = categories
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever is asked."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Classify images (B, 3, H, W) in [0, 1]: logits (B, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits.float()

    def eager(self, images: Tensor) -> Any:
        """Give what the network itself gives, not compiled: for hooks, and for few images once."""
        return self.network.forward((images - self.mean) / self.std)

    def divergence(self, target: Tensor, prediction: Tensor) -> Tensor:
        """KL(y || y') of two predictions given as logits (B, classes): (B,), nats per image."""
        kl = categorical_kl if self.output == "softmax" else bernoulli_kl
        return kl(target, prediction)

    def agreement(self, target: Tensor, prediction: Tensor) -> Tensor:
        """Whether two predictions decide alike, (B,) bool.

        Softmax: the same top-1 class. Sigmoid: the same side of 1/2 for every label.
        """
        if self.output == "softmax":
            return target.argmax(-1) == prediction.argmax(-1)
        return ((target > 0) == (prediction > 0)).all(-1)

    def decision_log_odds(self, decided: Tensor, logits: Tensor) -> Tensor:
        """Log-odds, by some logits, of what others decide; of sigmoid labels their sum.

        Unlike the probability it does not saturate.

        Args:
            decided: Logits that decide, (B, classes).
            logits: That the decisions are weighed by, (B, classes).

        Returns:
            Log-odds, (B,), nats.
        """
        if self.output == "sigmoid":
            return torch.where(decided > 0, logits, -logits).sum(-1)
        top = decided.argmax(-1, keepdim=True)
        others = logits.scatter(-1, top, -math.inf).logsumexp(-1)
        return logits.gather(-1, top).squeeze(-1) - others

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits (B, classes) into class probabilities in [0, 1]."""
        return logits.softmax(-1) if self.output == "softmax" else logits.sigmoid()

    def top(self, logits: Tensor, number: int = 3) -> list[list[tuple[str, float]]]:
        """Name the most probable classes of logits (B, classes), each with its probability."""
        values, indices = self.probabilities(logits).topk(min(number, logits.shape[-1]))
        return [
            [(self._category(index), value) for index, value in zip(*row, strict=True)]
            for row in zip(indices.tolist(), values.tolist(), strict=True)
        ]

    def _category(self, index: int) -> str:
        return f"class {index}" if self.categories is None else self.categories[index]

    def identity(self) -> dict[str, Any]:
        """Say which classifier this is: what an explainer trained for it records.

        Returns:
            Name, weights, output, normalisation and the SHA-256 of parameters and buffers.
        """
        return {
            "name": self.name,
            "weights": self.weights,
            "output": self.output,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "sha256": parameter_hash(self.network),
        }


def check_frozen(classifier: object) -> None:
    """Refuse what is no frozen classifier, such as a plain network.

    Raises:
        ValueError: Saying what is.
    """
    if not isinstance(classifier, FrozenClassifier):
        raise ValueError(
            "Expected a saliency_vae.classifiers.FrozenClassifier, which wraps a network and "
            f"its normalisation. Found {type(classifier).__name__}."
        )


def describe(identity: dict[str, Any]) -> str:
    """Say in a few words which classifier an identity is of."""
    return f"{identity['name']} ({identity['weights']}, SHA-256 {identity['sha256'][:12]})"


def recorded_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Identity of the classifier that an explainer's configuration records.

    Raises:
        ValueError: If it records none.
    """
    found = config.get("classifier")
    if not isinstance(found, dict) or not {"name", "weights", *DECISIVE} <= found.keys():
        raise ValueError(
            f"Expected an explainer that records its classifier's identity. Found {found}."
        )
    return found


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """In what two identities differ that decides what is predicted."""
    return [key for key in DECISIVE if one[key] != other[key]]


def check_identity(classifier: FrozenClassifier, expected: dict[str, Any]) -> None:
    """Refuse a classifier that predicts otherwise than the one of an identity.

    Raises:
        ValueError: Naming both.
    """
    found = classifier.identity()
    differing = differences(found, expected)
    if differing:
        raise ValueError(
            f"Expected the classifier that this explainer explains, {describe(expected)}. "
            f"Found {describe(found)}, another {', '.join(differing)}. "
            "force=true (in Python force=True) explains with it all the same."
        )


def parameter_hash(network: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of a network's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(memoryview(flat.view(torch.uint8).numpy()) if flat.numel() else b"")
    return digest.hexdigest()


def torchvision_classifier(
    name: str = "resnet50", weights: str | None = "DEFAULT", output: Output = "softmax"
) -> FrozenClassifier:
    """Build a torchvision classification model with its weights' own preprocessing.

    Args:
        name: Such as ``resnet50``.
        weights: Such as ``IMAGENET1K_V2`` or ``DEFAULT``; None for random ones.
        output: See :class:`FrozenClassifier`.

    Raises:
        ValueError: If there is no such model or weights.
    """
    models = torchvision.models
    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(
            "Expected classifier.name to be one of torchvision's classification models "
            f"(torchvision.models.list_models()). Found {name!r}."
        )
    if weights is None:
        return FrozenClassifier(models.get_model(name), name=f"torchvision/{name}", output=output)
    available = models.get_model_weights(name)
    try:
        chosen = available[weights]
    except KeyError:
        names = ", ".join(member.name for member in available)
        raise ValueError(
            f"Expected classifier.weights of {name} to be one of DEFAULT, {names}. "
            f"Found {weights!r}."
        ) from None
    transform = chosen.transforms()
    try:
        network = models.get_model(name, weights=chosen)
    except OSError as error:
        raise ValueError(
            f"Expected classifier.weights={weights} of {name} in torch's cache or to download. "
            f"Found neither ({error}). classifier.weights=null takes random ones."
        ) from None
    return FrozenClassifier(
        network,
        name=f"torchvision/{name}",
        weights=chosen.name,
        mean=transform.mean,
        std=transform.std,
        output=output,
        categories=chosen.meta["categories"],
        preprocessing=Preprocessing(
            resize_size=transform.resize_size[0],
            crop_size=(transform.crop_size[0], transform.crop_size[0]),
            interpolation=transform.interpolation.value,
        ),
    )


def timm_classifier(
    name: str, pretrained: bool = True, output: Output = "softmax"
) -> FrozenClassifier:
    """Build a timm model with its weights' own preprocessing.

    Args:
        name: Such as ``resnet18.a1_in1k``.
        pretrained: Load its weights from the hub; False for random ones.
        output: See :class:`FrozenClassifier`.

    Raises:
        ValueError: If timm is not installed or has no such model.
    """
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ImportError:
        raise ValueError(
            "Expected the optional extra timm for classifier=timm. Not found: "
            "pip install 'saliency-vae[timm]'."
        ) from None
    if not timm.is_model(name):
        raise ValueError(
            f"Expected classifier.name to be one of timm.list_models(). Found {name!r}."
        )
    try:
        network = timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # the hub's and its HTTP library's too, with no common base
        raise ValueError(
            f"Expected classifier.name={name} to be one of timm.list_pretrained(), its weights in "
            f"the hub's cache or to download. Found {' '.join(str(error).split())}"
        ) from None
    data = resolve_model_data_config(network)  # type: ignore[no-untyped-call]  # timm's
    _, height, width = data["input_size"]
    enlarged = int(height / data["crop_pct"]), int(width / data["crop_pct"])
    if data["crop_mode"] not in ("center", "squash"):
        raise ValueError(
            "Expected a timm model whose images are cropped from the centre or squashed. "
            f"Found {data['crop_mode']} for {name}."
        )
    return FrozenClassifier(
        network,
        name=f"timm/{name}",
        weights="pretrained" if pretrained else None,
        mean=data["mean"],
        std=data["std"],
        output=output,
        preprocessing=Preprocessing(
            resize_size=enlarged if data["crop_mode"] == "squash" else min(enlarged),
            crop_size=(height, width),
            interpolation=data["interpolation"],
        ),
    )


def custom_classifier(
    module: str,
    weights: str | Path,
    arguments: Mapping[str, Any] | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    output: Output = "softmax",
    resize_size: int | tuple[int, int] | None = None,
    crop_size: int | tuple[int, int] | None = None,
) -> FrozenClassifier:
    """Build the user's own classifier: the import path is code that is run.

    Args:
        module: Import path of an ``nn.Module`` class or of a function that returns one, such as
            ``my_package.models.build``.
        weights: State dict: ``.safetensors``, or a PyTorch file (loaded with ``weights_only``).
        arguments: Keyword arguments of the class or function.
        mean: Subtracted from each channel of images in [0, 1].
        std: Divides each channel.
        output: See :class:`FrozenClassifier`.
        resize_size: Shorter side of the images in pixels, or height and width; None keeps their
            size.
        crop_size: Side of the centre crop, or height and width; None keeps all.

    Raises:
        ValueError: If the import path, the arguments, the weights or a size do not fit.
    """
    for setting, size in (("resize_size", resize_size), ("crop_size", crop_size)):
        if size is not None and min(_pair(size)) < MINIMUM_SIZE:
            raise ValueError(
                f"Expected classifier.{setting} >= {MINIMUM_SIZE} pixels. Found {size}."
            )
    try:
        network = _import(module)(**(arguments or {}))
    except TypeError as error:
        raise ValueError(
            f"Expected classifier.arguments to be those of {module}. Found {arguments} ({error})."
        ) from None
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"Expected classifier.module {module} to give an nn.Module. Found {type(network)}."
        )
    try:
        network.load_state_dict(load_state_dict(Path(weights)))
    except RuntimeError as error:
        raise ValueError(
            f"Expected classifier.weights {weights} to fit {module}. {' '.join(str(error).split())}"
        ) from None
    return FrozenClassifier(
        network,
        name=module,
        weights=Path(weights).name,
        mean=mean,
        std=std,
        output=output,
        preprocessing=Preprocessing(
            resize_size=resize_size if isinstance(resize_size, int | None) else _pair(resize_size),
            crop_size=None if crop_size is None else _pair(crop_size),
        ),
    )


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict without executing anything.

    Args:
        path: ``.safetensors``, or a PyTorch file of tensors, plain or under ``state_dict``.

    Raises:
        ValueError: If the file is missing or unreadable.
    """
    if not path.is_file():
        raise ValueError(f"Expected classifier.weights to be a file. Not found: {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"Expected classifier.weights {path} to be a safetensors file or a PyTorch state "
            f"dict. Found neither ({type(error).__name__})."
        ) from None
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(
            f"Expected classifier.weights {path} to hold a state dict, tensors by name. "
            f"Found {type(loaded).__name__}."
        )
    return state


def _import(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            "Expected classifier.module to be an import path such as my_package.models.build. "
            f"Found {path!r} ({error})."
        ) from None
    return found
