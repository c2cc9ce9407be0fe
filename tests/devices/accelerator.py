"""A pretended accelerator: its tensors compute on the CPU, and refuse to meet those of the CPU.

A tensor that is not moved, a generator of another device, or ``.numpy()`` without ``.cpu()`` fails
on it as on a GPU, while values are real, so that code which looks at them runs too. ``start`` is
for a process of its own: torch then has an accelerator until the process ends.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, library
from torch.utils.backend_registration import _DummyBackendModule

NAME = "pretend"
_aten = torch.ops.aten
_MOVING = {_aten.to, _aten.type_as}  # made of the ops below, which know their device by name
_CROSSING = {_aten._to_copy, _aten.copy_}  # ops that may take tensors of two devices
# Ops that take indices of the CPU: the places of these in the arguments.
_INDICES = {_aten.index: 1, _aten.index_put: 1, _aten.index_put_: 1, _aten._index_put_impl_: 1}
# Ops besides pointwise ones that take scalar tensors of the CPU.
_SCALARS = {*_INDICES, _aten.masked_fill, _aten.masked_fill_, _aten.fill, _aten.fill_}

# Ops whose result has to be known before the CPU goes on; copies between devices beside them.
_ANSWERING = {_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.is_nonzero}

_FACTORIES = (
    *("arange", "arange.start", "arange.start_step", "linspace", "logspace", "eye", "eye.m"),
    *("randperm", "randperm.generator"),
)

waits: list[torch.device] = []  # calls of torch.accelerator.synchronize
answers: list[Any] = []  # operators whose result the CPU waits for
_real_generator = torch.Generator
_generators: dict[int, torch.Generator] = {}  # those of the accelerator, by address


class PretendTensor(Tensor):
    """A tensor of the pretended accelerator around one of the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["PretendTensor"], held: Tensor) -> "PretendTensor":
        make: Any = Tensor._make_wrapper_subclass
        size, strides = held.size(), held.stride()
        with torch.inference_mode(held.is_inference()):
            made: PretendTensor = make(
                cls, size, strides=strides, dtype=held.dtype, device=f"{NAME}:0"
            )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own stub lacks func
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(func, *args, **(kwargs or {}))

    def new_tensor(self, data: Any, **options: Any) -> Tensor:  # type: ignore[override]
        given: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        return torch.tensor(data, **(given | options))

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __format__(self, specification: str) -> str:
        return format(self.detach().cpu(), specification)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"pretend:{self.detach().cpu()!r}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        on_cpu: Any = self.detach().cpu()
        return on_cpu.__reduce_ex__(protocol)


class PretendGenerator(torch.Generator):
    """A generator of the CPU that says which device it was made for."""

    def __new__(cls, device: torch.device | str = "cpu") -> "PretendGenerator":
        made = super().__new__(cls)
        if torch.device(device).type == NAME:
            _generators[made._cdata] = made  # type: ignore[attr-defined]  # torch's
        return made


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        """Leave the numbers to the CPU, which draws them."""


def start() -> None:
    """Register the accelerator, for the rest of this process."""
    torch.utils.backend_registration._setup_privateuseone_for_python_backend(
        NAME, backend_module=_Backend()
    )
    make_library: Any = library.Library
    everything, factories = (make_library(name, "IMPL") for name in ("_", "aten"))
    everything.fallback(_compute, "PrivateUse1")
    for name in _FACTORIES:  # torch would make an empty tensor and enlarge it
        packet, _, overload = name.partition(".")
        func = getattr(getattr(_aten, packet), overload or "default")
        factories.impl(name, partial(_compute, func), "PrivateUse1")
    _kept.extend((everything, factories))
    for name in ("tensor", "as_tensor"):
        setattr(torch, name, partial(_moved, getattr(torch, name)))
    torch.Generator = PretendGenerator  # type: ignore[misc, assignment]
    torch.accelerator.synchronize = waits.append  # type: ignore[assignment]


_kept: list[Any] = []  # what torch does not keep of it


def is_started() -> bool:
    """Whether this process has the accelerator."""
    return bool(_kept)


def _moved(make: Callable[..., Tensor], data: Any, **options: Any) -> Tensor:
    """Make a tensor of numbers on the CPU, and move it after that, which torch does in one."""
    device = options.pop("device", None)
    made = make(data, **options)
    return made if device is None else made.to(device)


def _compute(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Call an operator with what the tensors hold, once all devices are checked."""
    packet = func.overloadpacket
    if packet in _MOVING:
        return func.decompose(*args, **kwargs)
    tensors = _tensors([*args, *kwargs.values()])
    pretended = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    if packet is _aten._has_compatible_shallow_copy_type and 0 < len(pretended) < len(tensors):
        return False  # asked by a module that moves to another device
    if packet not in _CROSSING:
        _check(func, args, kwargs, tensors)
    asked = kwargs.get("device")
    moves = packet in _CROSSING and not any(
        given is True for given in (*args[2:], kwargs.get("non_blocking"))
    )
    if packet in _ANSWERING or (moves and _crosses(asked, tensors)):
        answers.append(func)
    if asked is not None:
        stays = torch.device(asked).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif packet is _aten.copy_:
        stays = isinstance(args[0], PretendTensor)
    else:
        stays = bool(pretended)
    given = {id(tensor.held): tensor for tensor in pretended}

    def wrapped(tensor: Tensor) -> Tensor:
        if id(tensor) in given:
            assert given[id(tensor)].shape == tensor.shape, f"{func} changes the size of a tensor"
            return given[id(tensor)]
        return PretendTensor(tensor) if stays else tensor

    result = func(
        *(_mapped(_held, arg) for arg in args),
        **{name: _mapped(_held, arg) for name, arg in kwargs.items()},
    )
    return _mapped(wrapped, result)


def _crosses(asked: Any, tensors: list[Tensor]) -> bool:
    """Whether a copy goes from one device to another."""
    ends = {isinstance(tensor, PretendTensor) for tensor in tensors}
    if asked is not None:
        ends.add(torch.device(asked).type == NAME)
    return len(ends) > 1


def _held(tensor: Tensor) -> Tensor:
    return tensor.held if isinstance(tensor, PretendTensor) else tensor


def _mapped(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """Replace the tensors in nested lists."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, list | tuple):
        return [_mapped(function, branch) for branch in tree]
    return tree


def _tensors(tree: Any) -> list[Tensor]:
    """Tensors in nested lists."""
    found: list[Tensor] = []
    for branch in tree:
        if isinstance(branch, Tensor):
            found.append(branch)
        elif isinstance(branch, list | tuple):
            found += _tensors(branch)
    return found


def _check(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
    """Refuse what a GPU refuses.

    Args:
        func: Operator.
        args: Its arguments.
        kwargs: Those with names.
        tensors: All tensors among them.

    Raises:
        RuntimeError: If a tensor or the generator is of another device.
    """
    packet = func.overloadpacket
    asked = kwargs.get("device")
    on_pretend = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    generator: Any = kwargs.get("generator") or next(
        (a for a in args if isinstance(a, _real_generator)), None
    )
    if generator is not None:
        expected = (
            torch.device(asked).type if asked is not None else (NAME if on_pretend else "cpu")
        )
        if (generator._cdata in _generators) != (expected == NAME):
            raise RuntimeError(f"{func}: expected a generator of {expected}.")
    if not on_pretend:
        return
    if packet in _INDICES and isinstance(args[0], PretendTensor):
        place = _INDICES[packet]
        tensors = _tensors([*args[:place], *args[place + 1 :], *kwargs.values()])
    for tensor in tensors:
        if isinstance(tensor, PretendTensor):
            continue
        if tensor.ndim or not (packet in _SCALARS or torch.Tag.pointwise in func.tags):
            raise RuntimeError(
                f"{func}: expected all tensors on one device. Found one of {tuple(tensor.shape)} "
                "on the CPU."
            )
