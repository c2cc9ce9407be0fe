"""What an explanation costs beyond its encoder's convolutions: python benchmarks/explanation.py.

Ratios within one run; the convolutions are timed alone, each on the input that it had.
"""

import json
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from saliency_vae.distributions import KroneckerNormal
from saliency_vae.encoders import PaperEncoder, UNet, fold_batch_norm
from saliency_vae.explainer import Explainer


def median(function: Callable[[], object]) -> float:
    """Median seconds of a call, over at least two seconds of calls."""
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=2.0).median


def convolutions(encoder: nn.Module, images: Tensor) -> Callable[[], None]:
    """Run every convolution of an encoder alone, on the input that it has for these images."""
    calls: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda m, inputs: calls.append((m, inputs[0].clone())))
        for module in encoder.modules()
        if isinstance(module, nn.Conv2d)
    ]
    encoder(images)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for module, x in calls:
            module(x)

    return run


def main() -> None:
    """Print a table, and JSON on the last line."""
    rows = []
    cases = [
        ("unet built-in, 48x48, batch 32", UNet([8, 24, 48, 64]), 48, 32),
        ("unet, 224x224, batch 4", UNet(), 224, 4),
        (
            "paper, quarter width, 48x48, batch 32",
            PaperEncoder([16] * 4 + [8] * 5 + [4] * 6 + [2]),
            48,
            32,
        ),
    ]
    for name, encoder, size, batch in cases:
        explainer = Explainer(fold_batch_norm(encoder), prior=partial(KroneckerNormal)).eval()
        explainer.to(memory_format=torch.channels_last)  # as load_explainer does
        images = torch.rand(batch, 3, size, size)
        with torch.inference_mode():
            alone = median(convolutions(explainer.encoder, images))
            whole = median(lambda: explainer(images))  # noqa: B023
            unfolded = median(lambda: encoder.eval()(images))  # noqa: B023
        rows.append(
            {
                "case": name,
                "convolutions_ms": 1000 * alone,
                "explanation_ms": 1000 * whole,
                "ratio": whole / alone,
                "unfolded_ratio": unfolded / alone,
            }
        )
        print(
            f"{name:40s} convolutions {1000 * alone:8.2f} ms, explanation {whole / alone:.2f}x, "
            f"unfolded encoder {unfolded / alone:.2f}x"
        )
    json.dump(rows, sys.stdout)
    print()


if __name__ == "__main__":
    main()
