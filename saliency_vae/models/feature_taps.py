"""Find the feature maps of any classifier while it runs, without knowing its architecture."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import get_ident
from typing import Any

from torch import Tensor, nn

STRIDES = (2, 4, 8, 16, 32)
_MOST_EXTRA_TOKENS = 16  # most class, distillation and register tokens before a known grid
_MOST_GUESSED = 5  # the same, where the grid is guessed from the number of tokens
# Attention weights (B, heads, tokens, tokens) look like a map; a dropout passes them on.
_OF_ATTENTION = (nn.Softmax, nn.Dropout)
_BIASES = ("RelPosBias", "RelPosBiasTf", "RelPosMlp")  # timm's, which return weights with a bias


@dataclass(frozen=True)
class Features:
    """Output of a classifier's module, and how to read it as maps (B, C, h, w).

    Attributes:
        output: Output of the module, in the autograd graph of the logits.
        grid: Height and width of the maps.
        extra_tokens: Number of tokens before the patch tokens; None if the output is a map.
        channels_last: Whether the channels of a map come last.
    """

    output: Tensor
    grid: tuple[int, int]
    extra_tokens: int | None = None
    channels_last: bool = False

    def as_map(self, values: Tensor) -> Tensor:
        """Reshape the output, or its gradient, to (B, C, h, w)."""
        if self.extra_tokens is not None:
            tokens = values[:, self.extra_tokens :].mT
            return tokens.reshape(*tokens.shape[:2], *self.grid)
        return values.movedim(-1, 1) if self.channels_last else values


@contextmanager
def tapped_features(network: nn.Module, images: Tensor) -> Iterator[dict[int, list[Features]]]:
    """Collect the feature maps of each stride while a network runs, in call order.

    The last map of each stride is kept. Tokens are kept after each normalisation layer, also where
    a map follows, because what follows the last attention may depend on the class token alone.
    Calls in other threads are ignored, and so are windows of a map, whose batch is larger than that
    of the images, and tokens that are split into the heads of an attention.

    Args:
        network: Network of the classifier.
        images: The images that it will classify, (B, 3, H, W).
    """
    found: dict[int, list[Features]] = {}
    thread, number, size = get_ident(), images.shape[0], (images.shape[-2], images.shape[-1])
    tokens: set[tuple[int, int]] = set()

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if get_ident() != thread or not isinstance(output, Tensor) or not output.requires_grad:
            return
        tokens.update(token_shapes(output))
        if is_split(output, tokens):
            return
        grids = [features[-1].grid for features in found.values()]
        features = as_features(output, size, grids)
        if features is None or output.shape[0] != number:
            return
        stride = nearest_stride(features.grid, size)
        if stride not in STRIDES:
            return
        if features.extra_tokens is None:
            earlier = found.get(stride, [])
            found[stride] = [*(f for f in earlier if f.extra_tokens is not None), features]
        elif "norm" in type(module).__name__.lower():
            found.setdefault(stride, []).append(features)

    modules = filter(may_give_maps, network.modules())
    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield found
        _settle_order(found, size)
    finally:
        for hook in hooks:
            hook.remove()


def _settle_order(found: dict[int, list[Features]], size: tuple[int, int]) -> None:
    """Give maps of ambiguous channel order the order of most other maps."""
    maps = [f.output for of_stride in found.values() for f in of_stride if f.extra_tokens is None]
    if channels_come_last(maps, size):
        for of_stride in found.values():
            for index, features in enumerate(of_stride):
                grid = _grid(features.output, True)
                if features.extra_tokens is None and is_grid(grid, size):
                    of_stride[index] = replace(features, grid=grid, channels_last=True)


def channels_come_last(outputs: Iterable[Tensor], size: tuple[int, int]) -> bool:
    """Whether the channels come last in most maps whose channel order is unambiguous.

    A map with as many channels as rows can be ambiguous. Only the last map of each stride counts.

    Args:
        outputs: Four-dimensional outputs of modules, in call order.
        size: Height and width of the images.
    """
    last: dict[int, list[bool]] = {}
    for output in outputs:
        orders = [order for order in (False, True) if is_grid(_grid(output, order), size)]
        if orders:
            last[nearest_stride(_grid(output, orders[0]), size)] = orders
    known = [orders[0] for orders in last.values() if len(orders) == 1]
    return 2 * sum(known) > len(known)


def token_shapes(output: Tensor) -> set[tuple[int, int]]:
    """Number and width of the tokens in an output (B, tokens, width); empty for other outputs."""
    return {(output.shape[1], output.shape[2])} if output.ndim == 3 else set()


def is_split(output: Tensor, tokens: set[tuple[int, int]]) -> bool:
    """Whether an output (B, heads, tokens, width) holds the heads of an attention, and is no map.

    Args:
        output: Output of a module.
        tokens: Number and width of the tokens in earlier outputs, see :func:`token_shapes`.
    """
    return output.ndim == 4 and (output.shape[2], output.shape[1] * output.shape[3]) in tokens


def may_give_maps(module: nn.Module) -> bool:
    """Whether a module's output can be a feature map: not that of padding or attention.

    A padded map is larger than the feature map itself.
    """
    padding = type(module).__module__ == "torch.nn.modules.padding"
    weights = isinstance(module, _OF_ATTENTION) or type(module).__name__ in _BIASES
    return not (padding or weights)


def as_features(
    output: Tensor, size: tuple[int, int], grids: Sequence[tuple[int, int]] = ()
) -> Features | None:
    """Recognise a feature map, channels first or last, or the tokens of a grid of patches.

    Args:
        output: Output of a module.
        size: Height and width of the images.
        grids: Grids of earlier features, which are tried first for tokens.

    Returns:
        The features; None if the output is neither.
    """
    if output.ndim == 4:
        for channels_last in (False, True):
            grid = _grid(output, channels_last)
            if is_grid(grid, size):
                return Features(output, grid, channels_last=channels_last)
    if output.ndim == 3:
        known = {output.shape[1] - height * width: (height, width) for height, width in grids}
        if fitting := [extra for extra in known if 0 <= extra <= _MOST_EXTRA_TOKENS]:
            return Features(output, known[min(fitting)], extra_tokens=min(fitting))
        for extra in range(_MOST_GUESSED + 1):
            tokens = output.shape[1] - extra
            height = round(math.sqrt(max(tokens, 1) * size[0] / size[1]))
            grid = height, tokens // max(height, 1)
            if height and grid[0] * grid[1] == tokens and is_grid(grid, size):
                return Features(output, grid, extra_tokens=extra)
    return None


def _grid(output: Tensor, channels_last: bool) -> tuple[int, int]:
    """Height and width of a map (B, C, h, w), or (B, h, w, C)."""
    height, width = output.shape[1:3] if channels_last else output.shape[2:4]
    return height, width


def is_grid(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid, of at least 2x2 cells, divides an image into square cells.

    Cells at the border may lie partly outside the image, or pixels outside the grid: where a
    network does not pad its maps, as many along both axes, up to less than a cell.
    """
    if min(grid) < 2:
        return False
    down, across = size[0] / grid[0], size[1] / grid[1]
    if (down > 1 and round(down) == round(across)) or _has_equal_borders(grid, size):
        return True
    return any(
        all(cells in (n // stride, -(-n // stride)) for cells, n in zip(grid, size, strict=True))
        for stride in STRIDES
    )


def _has_equal_borders(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid leaves about as many pixels of an image along both axes."""
    stride = nearest_stride(grid, size)
    down, across = (n - stride * cells for n, cells in zip(size, grid, strict=True))
    return stride in STRIDES and min(down, across) >= 0 and abs(down - across) < stride


def nearest_stride(grid: tuple[int, int], size: tuple[int, int]) -> int:
    """Stride of a grid: the power of two nearest to the side of a cell in pixels."""
    sides = (n / cells for n, cells in zip(size, grid, strict=True))
    return int(2 ** round(sum(map(math.log2, sides)) / 2))
