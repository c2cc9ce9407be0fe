"""Memory: keeping it on a CPU, recognising that it is full, and saying what to change then."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from saliency_vae.runtime.text import one_line

# What needs less memory, by command; for all other commands it is a smaller batch_size.
LESS = {
    "train": "trainer.accumulate_grad_batches=2 (half of the images at once, the same steps), "
    "trainer.precision=bf16-mixed or encoder=unet",
    "export": "image_size=[224,224]",
}
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's mallopt
_CPU = ("can't allocate memory", "not enough memory")  # torch raises a plain RuntimeError
# A process of a loader or a pool was killed, which the system does when memory is full.
_KILLED = (
    "DataLoader worker (pid",
    "process in the process pool was terminated abruptly",
    "the process pool is not usable",  # the next task of the same pool
)


def keep_freed_memory() -> None:
    """Keep the memory of freed CPU tensors, instead of returning it to the system.

    An evaluation makes and frees large tensors thousands of times. The C library of Linux (glibc)
    returns the memory of each at once, and the system clears it again for the next, which takes up
    to half of the time. With another C library, nothing changes.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the accelerator, or of the machine, is full.

    A worker process that was killed counts too: full memory is nearly always the reason.
    """
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    import torch  # only once something has failed: --help does not wait for torch

    full = isinstance(error, torch.OutOfMemoryError)
    return full or any(text in str(error) for text in (*_CPU, *_KILLED))


@contextmanager
def suggesting(change: str, then: str = "") -> Iterator[None]:
    """Turn an out-of-memory error into one line that says what to change.

    Args:
        change: Setting that needs less memory, such as ``batch_size < 32``.
        then: Sentence on what is kept, and how to continue.

    Raises:
        ValueError: If the memory is full.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        why = one_line(str(error).split("\n")[0]) or type(error).__name__
        killed = any(text in why for text in _KILLED)
        found = "a process killed, perhaps for its memory" if killed else "it full"
        said = f"Expected {change}, to fit into memory. Found {found}: {why.rstrip('.')}. {then}"
        raise ValueError(said.rstrip()) from None
