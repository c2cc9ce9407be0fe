"""Copies of networks whose modules can be changed: that the copy stays the same function."""

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
    """Copy a module and its children, which share their weights.

    Args:
        module: Module to copy.
        in_place: Whether modules of the copy may work in place, so that a hook may see an output
            that a later module has altered. Where they may not, :func:`check_same` must follow.
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
    """Check that the changed copy of a network gives its logits, once for a method and network.

    The copy gives others where the network goes on with what a module altered in place, as after a
    statement ``self.relu(x)``. The passes, of one image, are not counted.

    Args:
        copied: The copy of the classifier's network.
        classifier: Classifier of the network.
        images: Images (B, 3, H, W), of which the first is classified.
        method: Name of the method, for the error.

    Raises:
        ValueError: If the copy gives other logits.
    """
    methods = _checked.setdefault(classifier.network, set())
    if method in methods:
        return
    one = (images[:1].to(classifier.mean) - classifier.mean) / classifier.std
    found, expected = (_logits(network, one) for network in (copied, classifier.network))
    # Batch normalisation that was merged rounds differently, and cuDNN's TF32 is coarse.
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
