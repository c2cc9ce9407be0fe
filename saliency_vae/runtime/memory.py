"""Running out of memory: which errors mean it, and what to change then."""

from collections.abc import Iterator
from contextlib import contextmanager

# What needs less memory, by command; for all other commands it is a smaller batch_size.
LESS = {
    "train": "trainer.accumulate_grad_batches=2 (half of the images at once, the same steps), "
    "trainer.precision=bf16-mixed or encoder=unet",
    "export": "image_size=[224,224]",
}
_CPU = ("can't allocate memory", "not enough memory")  # torch raises a plain RuntimeError
# A process of a loader or of a pool was killed, which the system does where memory is full.
_KILLED = (
    "DataLoader worker (pid",
    "process in the process pool was terminated abruptly",
    "the process pool is not usable",  # the next task of the same pool
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of the accelerator, or of the machine, is full.

    A process beside this one that was killed counts too: nearly always that is why.
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
    """Turn an error that means too little memory into one line that says what to change.

    Args:
        change: Setting that needs less memory, such as ``batch_size < 32``.
        then: Sentence on what is kept, and how to go on.

    Raises:
        ValueError: If the memory is full.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        why = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        killed = any(text in why for text in _KILLED)
        found = "a process killed, perhaps for its memory" if killed else "it full"
        said = f"Expected {change}, to fit into memory. Found {found}: {why.rstrip('.')}. {then}"
        raise ValueError(said.rstrip()) from None
