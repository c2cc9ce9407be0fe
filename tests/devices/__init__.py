"""Whether each tensor is on the device of what it meets, on a pretended accelerator."""
