"""The paper's encoder, forward and backward at 224x224: memory formats, precision, compilation.

python benchmarks/encoder.py [--quick]
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from timing import Report, Target, arguments, has_bfloat16, interleaved, milliseconds, ratio
from torch import Tensor, nn

from saliency_vae.models import PaperEncoder


@dataclass(frozen=True)
class Variant:
    """A way to run the encoder."""

    channels_last: bool = False
    bfloat16: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        """Name the settings that differ from the defaults."""
        return ", ".join(name for name, on in vars(self).items() if on) or "plain"

    def prepare(
        self, encoder: nn.Module, images: Tensor, grad: Tensor
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        """Make a function that runs a copy forward and backward to give output and gradients."""
        encoder = copy.deepcopy(encoder)
        if self.channels_last:
            encoder.to(memory_format=torch.channels_last)
            images = images.contiguous(memory_format=torch.channels_last)
        if self.compiled:
            encoder.compile()

        def run() -> tuple[Tensor, Tensor]:
            encoder.zero_grad()
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
                output = encoder(images)
            output.to(grad.dtype).backward(grad)
            gradients = [p.grad.flatten() for p in encoder.parameters()]
            return output.detach().double(), torch.cat(gradients).double()

        return run


def error(found: Tensor, exact: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return ((found - exact).norm() / exact.norm()).item()


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    device = options.device
    size, batch, rounds = (16, 2, 1) if options.quick else (224, 4, 3)
    torch.manual_seed(0)
    encoder = (PaperEncoder([4, 2]) if options.quick else PaperEncoder()).to(device)
    nn.init.normal_(encoder.head.weight, std=0.1)
    images = torch.rand(batch, 3, size, size, device=device)
    grad = torch.randn(batch, 2, size, size, device=device)
    variants = [
        Variant(),
        Variant(channels_last=True),
        Variant(channels_last=True, bfloat16=True),
    ]
    if not options.quick:
        variants += [
            Variant(compiled=True),
            Variant(channels_last=True, compiled=True),
            Variant(channels_last=True, bfloat16=True, compiled=True),
        ]
    if not has_bfloat16(device):
        variants = [variant for variant in variants if not variant.bfloat16]
    functions = {str(v): v.prepare(encoder, images, grad) for v in variants}
    results = {name: function() for name, function in functions.items()}
    times = interleaved(functions, device, rounds=rounds)
    exact = Variant().prepare(encoder.double(), images.double(), grad.double())()
    report = Report("encoder", "The paper's encoder", device, options.quick)
    report.tables[f"Forward and backward, batch {batch}, {size}x{size}"] = [
        {
            "": name,
            "ms": milliseconds(times[name]),
            "times as fast as plain": ratio(times["plain"], times[name]),
            "relative error of the output": error(results[name][0], exact[0]),
            "relative error of the gradients": error(results[name][1], exact[1]),
        }
        for name in functions
    ]
    for name in ("channels_last", "channels_last, compiled", "channels_last, bfloat16"):
        if name in times:
            speed = ratio(times["plain"], times[name])
            report.targets.append(Target(f"{name}: times as fast", speed, at_least=1.5))
    report.save(options.output)


if __name__ == "__main__":
    main()
