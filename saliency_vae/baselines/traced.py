"""Copy a network so that every operation is a separate module, called once.

Methods that modify the backward pass of each operation need this. A module that is called twice, or
a sum that is not a module, would silently be treated wrongly.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from saliency_vae.baselines.copies import shared_copy
from saliency_vae.baselines.merged import Tracer
from saliency_vae.runtime.text import one_line

_LINEAR = (
    nn.Conv2d,
    nn.Linear,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.ZeroPad2d,
    nn.Dropout,
    nn.Flatten,
    nn.Identity,
)  # linear in eval mode
_SHAPES = {"chunk", "flatten", "reshape", "squeeze", "transpose", "view"}
_SHAPES |= {"clone", "contiguous", "size"}
_MOVING = {torch.cat, torch.flatten, torch.transpose, operator.getitem, operator.floordiv, getattr}
_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RECTIFIERS = (F.relu, torch.relu, "relu", "relu_")
_FACTORIES: dict[Any, Callable[..., nn.Module]] = {
    **dict.fromkeys(_RECTIFIERS, lambda *_, **__: nn.ReLU()),
    F.relu6: lambda *_, **__: nn.ReLU6(),
    F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    F.dropout: lambda *_, **__: nn.Identity(),
}


class Sum(nn.Module):
    """Sum of terms stacked along the last dimension, such as a residual connection."""

    def forward(self, stacked: Tensor) -> Tensor:
        """Add terms (..., n): (...)."""
        return stacked.sum(-1)


class GlobalAverage(nn.AdaptiveAvgPool2d):
    """Mean over the pixels of feature maps.

    Args:
        keepdim: Whether the result is (B, C, 1, 1) instead of (B, C).
    """

    def __init__(self, keepdim: bool) -> None:
        super().__init__(1)
        self.keepdim = keepdim

    def forward(self, maps: Tensor) -> Tensor:
        """Average feature maps (B, C, h, w)."""
        mean = super().forward(maps)
        return mean if self.keepdim else mean.flatten(1)


def one_module_per_call(
    network: nn.Module, allowed: tuple[type[nn.Module], ...], *, method: str
) -> fx.GraphModule:
    """Copy a network so that each call has a separate module; the weights are shared.

    Args:
        network: Network in eval mode, of convolutions and other linear modules.
        allowed: Further modules that are allowed, such as activations.
        method: Name of the method, for the error.

    Raises:
        ValueError: If the network cannot be traced, or has any other operation.
    """
    try:
        graph = Tracer().trace(network)
    except Exception as error:  # user code may raise anything
        raise ValueError(
            f"Expected a classifier that torch.fx can trace for {method}. Found {one_line(error)}"
        ) from None
    modules: dict[str, nn.Module] = {}
    for node in list(graph.nodes):
        if node.op in ("placeholder", "output") or node.target in _MOVING or _is_shape(node):
            continue
        name = f"call_{len(modules)}"
        modules[name] = _module_of(node, network, allowed, method)
        with graph.inserting_before(node):
            taken = _input_of(node, graph)
            called = graph.call_module(name, (taken,))
        node.replace_all_uses_with(called)
        graph.erase_node(node)
    return fx.GraphModule(modules, graph).eval()


def _is_shape(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target in _SHAPES


def _input_of(node: fx.Node, graph: fx.Graph) -> fx.Node:
    """Input of a call: the stacked terms of a sum, or a tensor that nothing else uses."""
    first = node.all_input_nodes[0]
    if node.target in _ADDITIONS:
        return graph.call_function(torch.stack, (list(node.args), -1))
    return graph.call_method("clone", (first,)) if len(first.users) > 1 else first


def _module_of(
    node: fx.Node, network: nn.Module, allowed: tuple[type[nn.Module], ...], method: str
) -> nn.Module:
    """Module that performs the operation of a node."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        running = getattr(module, "track_running_stats", True)  # else it uses batch statistics
        if isinstance(module, (*_LINEAR, *allowed)) and running:
            return shared_copy(module, in_place=False)
        found = type(module).__name__ + ("" if running else " without running statistics")
    elif node.target in _ADDITIONS and _adds_tensors(node):
        return Sum()
    elif node.target in _FACTORIES:
        return _FACTORIES[node.target](*node.args[1:], **node.kwargs)
    elif node.target in ("mean", torch.mean) and (keepdim := _keeps_dimensions(node)) is not None:
        return GlobalAverage(keepdim)
    else:
        found = str(getattr(node.target, "__name__", node.target))
    names = ", ".join(kind.__name__ for kind in (*_LINEAR, *allowed))
    raise ValueError(
        f"Expected a classifier of {names}, residual sums and concatenations for {method}. "
        f"Found {found}."
    )


def _adds_tensors(node: fx.Node) -> bool:
    """Whether both terms are tensors, with no ``alpha``."""
    return all(isinstance(term, fx.Node) for term in node.args) and not node.kwargs


def _keeps_dimensions(node: fx.Node) -> bool | None:
    """Whether a mean over the pixels keeps their dimensions; None for any other mean."""
    given: dict[str, Any] = {
        **dict(zip(("x", "dim", "keepdim"), node.args, strict=False)),
        **node.kwargs,
    }
    dim = given.get("dim")
    pixels = isinstance(dim, tuple | list) and {axis % 4 for axis in dim} == {2, 3}
    return bool(given.get("keepdim", False)) if pixels else None
