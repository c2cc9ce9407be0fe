"""Running out of memory: which errors mean it, and what to change then."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LESS = {  # what needs less memory, by command; else a smaller batch_size
    "train": "trainer.accumulate_grad_batches=2 (half of the images at once, the same steps), "
    "trainer.precision=bf16-mixed or encoder=unet",
    "export": "image_size=[224,224]",
}
_CPU = ("can't allocate memory", "not enough memory")  # torch's plain RuntimeErrors


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that an accelerator's memory, or the machine's, is full."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU)


@contextmanager
def suggesting(change: str) -> Iterator[None]:
    """Turn such an error into one line that says what to change.

    Args:
        change: What was expected, such as ``batch_size < 32``.

    Raises:
        ValueError: If the memory is full.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        why = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        raise ValueError(f"Expected {change}, to fit into memory. Found it full: {why}") from None
