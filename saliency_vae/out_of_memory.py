"""What to do when the memory was too small."""

import torch

_FEWER = {
    "train": "trainer.accumulate_grad_batches=2 (half of the images at once, the same steps), "
    "trainer.precision=bf16-mixed or encoder=unet",
    "export": "image_size=[224,224]",
}


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def advice(error: Exception, command: str) -> str:
    """Say in one line what was too much, and which setting of the command to change."""
    found = str(error).splitlines()[0] if str(error) else type(error).__name__
    setting = _FEWER.get(command, "a smaller batch_size")
    return f"Expected enough memory. Found: {found.rstrip('.')}. Try {setting}."
