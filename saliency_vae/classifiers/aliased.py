"""A frozen copy of a network that shares the memory of its weights."""

import copy

import torch
from torch import Tensor, nn

from saliency_vae.runtime.text import described


def frozen_alias(network: nn.Module) -> nn.Module:
    """Copy the modules of a network, in eval mode and without gradients to the weights.

    The copy shares the memory of the weights, so it takes no extra memory and follows any training
    of the network. The network itself is left unchanged: its mode, which of its weights require
    gradients, its device and its hooks.

    Args:
        network: Network to copy.

    Returns:
        Copy that shares all parameters and buffers.

    Raises:
        ValueError: If it cannot be copied, or is TorchScript.

    Example:
        >>> network = nn.Linear(2, 1)
        >>> alias = frozen_alias(network)
        >>> network.weight.requires_grad, alias.weight.requires_grad
        (True, False)
        >>> network.weight.data_ptr() == alias.weight.data_ptr()
        True
    """
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise ValueError(
            "Expected a network of Python modules. Found TorchScript, whose weights cannot be "
            "frozen: give the network that it was scripted or traced from."
        )
    shared: dict[int, Tensor] = {}
    for module in network.modules():
        for tensor in vars(module).values():  # kept by parametrisations, with a gradient
            if isinstance(tensor, Tensor):
                shared[id(tensor)] = tensor.detach()
        for buffer in module._buffers.values():
            if buffer is not None:
                shared[id(buffer)] = buffer.detach()
        for parameter in module._parameters.values():
            if type(parameter) is nn.Parameter:  # subclasses, e.g. quantised ones, hold more
                shared[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False)
    try:
        alias = copy.deepcopy(network, shared)
    except Exception as error:  # user code may raise anything
        raise ValueError(
            "Expected a network that copy.deepcopy can copy. "
            f"Found one that it cannot ({described(error)})."
        ) from None
    alias.requires_grad_(False)
    alias.eval()  # may return None: train() is often overridden
    return alias
