"""Copies of networks that can be modified, and a check that they still give the same logits."""

import copy
from itertools import chain
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier

_Module = TypeVar("_Module", bound=nn.Module)
_checked: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # methods, by network


def shared_copy(module: _Module, *, in_place: bool = True) -> _Module:
    """Copy a module and its children, sharing their weights.

    Args:
        module: Module to copy.
        in_place: Whether modules of the copy may work in place. If True, a hook may see an output
            that a later module has altered. If False, call :func:`check_same` afterwards.
    """
    tensors = chain(module.parameters(), module.buffers())
    copied = copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    for child in copied.modules():
        if not in_place and hasattr(child, "inplace"):
            vars(child)["inplace"] = False
    return copied


@torch.no_grad()
def check_same(
    copied: nn.Module, classifier: FrozenClassifier, images: Tensor, *, method: str
) -> None:
    """Check, once per method and network, that a modified copy gives the network's logits.

    They differ if the network relies on an in-place change, such as a bare ``self.relu(x)``. The
    passes, of one image each, are not counted.

    Args:
        copied: The copy of the classifier's network.
        classifier: Classifier of the network.
        images: Images (B, 3, H, W); only the first is classified.
        method: Name of the method, for the error.

    Raises:
        ValueError: If the logits differ.
    """
    methods = _checked.setdefault(classifier.network, set())
    if method in methods:
        return
    one = (images[:1].to(classifier.mean) - classifier.mean) / classifier.std
    found, expected = (_logits(network, one) for network in (copied, classifier.network))
    # Merged batch normalisation rounds differently, and cuDNN's TF32 is coarse.
    tolerance = max(1e-2, torch.finfo(one.dtype).eps ** 0.5)
    if not torch.allclose(found, expected, rtol=0, atol=tolerance * expected.abs().max().item()):
        raise ValueError(
            f"Expected a classifier whose logits {method} can compute without working in place. "
            f"Found other logits for {classifier.name}."
        )
    methods.add(method)


def _logits(network: nn.Module, images: Tensor) -> Tensor:
    output = network(images.clone())
    logits: Tensor = output if isinstance(output, Tensor) else output.logits
    return logits.float()
