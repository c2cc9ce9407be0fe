"""One explanation against its encoder, its convolutions and other methods.

python benchmarks/explanation.py [--quick]
"""

from collections.abc import Callable
from functools import partial

import torch
from timing import Report, Seconds, Target, arguments, interleaved, milliseconds, ratio
from torch import Tensor, nn

from saliency_vae.baselines import CaptumMethod, GradCAM, Rise
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.data import Batch
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import (
    ConditionalUNet,
    Explainer,
    PaperEncoder,
    UNet,
    find_feature_maps,
    fold_batch_norm,
)

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "built-in U-Net": lambda: UNet([8, 24, 48, 64]),
    "U-Net": UNet,
    "paper's, quarter width": lambda: PaperEncoder([16] * 4 + [8] * 5 + [4] * 6 + [2]),
    "paper's": PaperEncoder,
}


def explainer_of(encoder: nn.Module, device: torch.device) -> Explainer:
    """Make an explainer as ``load_explainer`` returns it: folded, in eval mode, channels last."""
    explainer = Explainer(fold_batch_norm(encoder), prior=partial(KroneckerNormal))
    explainer.to(device).to(memory_format=torch.channels_last)
    return explainer.eval().requires_grad_(False)


def convolutions(encoder: nn.Module, images: Tensor) -> Callable[[], None]:
    """Make a function that runs only an encoder's convolutions, on their inputs for images."""
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


def against_methods(report: Report, size: int, batch: int, masks: int, rounds: int) -> None:
    """Time explanations by the built-in encoders against other methods."""
    device = report.device
    classifier = FrozenClassifier(DigitNet(), name="digits").to(device)
    explainer = explainer_of(ENCODERS["built-in U-Net"](), device)
    images = torch.rand(batch, 3, size, size, device=device)
    maps = find_feature_maps(classifier, images)
    conditional = explainer_of(
        ConditionalUNet([8, 24, 48, 64], features=maps), device
    ).attach_classifier(classifier)
    inputs: Batch = {"image": images}
    grad_cam = GradCAM()
    integrated = CaptumMethod("captum.attr.IntegratedGradients", n_steps=50, internal_batch_size=64)
    rise = Rise(masks)

    def explain() -> Tensor:
        posterior = explainer(images)
        return torch.stack((posterior.mean, posterior.stddev))

    functions: dict[str, Callable[[], object]] = {
        "explanation, from the image alone": explain,
        "and the inclusion probability": lambda: explainer(images).inclusion_probability(0.1),
        "explanation, conditional": lambda: conditional(images).stddev,
        "encoder of the image alone": lambda: explainer.encoder(images),
        "classifier, one pass": lambda: classifier(images),
        "Grad-CAM": lambda: grad_cam(inputs, classifier),
        "integrated gradients, 50 steps": lambda: integrated(inputs, classifier),
        f"RISE, {masks} masks": lambda: rise(inputs, classifier),
    }
    for name, function in functions.items():
        # Captum's methods need gradients; the others run without.
        functions[name] = torch.no_grad()(function) if "gradients" not in name else function
    times = interleaved(functions, device, rounds=rounds)
    image_alone = times["explanation, from the image alone"]
    conditioned = times["explanation, conditional"]
    report.tables[f"{size}x{size}, batch {batch}, built-in encoders and classifier"] = [
        {
            "": name,
            "ms an image": milliseconds(t) / batch,
            "x from the image alone": ratio(t, image_alone),
            "x conditional": ratio(t, conditioned),
        }
        for name, t in times.items()
    ]
    integrated_time = times["integrated gradients, 50 steps"]
    for encoder, time in (("image alone", image_alone), ("conditional", conditioned)):
        target = f"explanation ({encoder}), {size}x{size}, batch {batch}"
        report.targets += [
            Target(f"RISE-1000 / {target}", ratio(times[f"RISE, {masks} masks"], time), 300),
            Target(f"IG-50 / {target}", ratio(integrated_time, time), 20),
        ]


def over_convolutions(report: Report, cases: list[tuple[str, int, int]], rounds: int) -> None:
    """Time an explanation against the convolutions of its encoder alone."""
    rows = []
    for name, size, batch in cases:
        encoder = ENCODERS[name]()
        explainer = explainer_of(encoder, report.device)
        encoder.to(report.device).eval()
        images = torch.rand(batch, 3, size, size, device=report.device)
        with torch.inference_mode():
            times = interleaved(
                {
                    "convolutions": convolutions(explainer.encoder, images),
                    "explanation": partial(explainer, images),
                    "unfolded": partial(encoder, images),
                },
                report.device,
                rounds=rounds,
            )
        alone = times["convolutions"]
        rows.append(
            {
                "encoder": f"{name}, {size}x{size}, batch {batch}",
                "convolutions, ms": milliseconds(alone),
                "explanation, x convolutions": ratio(times["explanation"], alone),
                "unfolded encoder, x convolutions": ratio(times["unfolded"], alone),
            }
        )
    report.tables["Beyond the convolutions"] = rows


def growth(report: Report, sides: list[int], batch: int, rounds: int) -> None:
    """Time an explanation with its inclusion probability for images of growing size."""
    explainer = explainer_of(ENCODERS["built-in U-Net"](), report.device)

    def explain(images: Tensor) -> Tensor:
        return explainer(images).inclusion_probability(0.1)

    with torch.no_grad():
        times: dict[str, Seconds] = interleaved(
            {
                str(side): partial(explain, torch.rand(batch, 3, side, side, device=report.device))
                for side in sides
            },
            report.device,
            rounds=rounds,
        )
    first, last = str(sides[0]), str(sides[-1])
    pixels = (sides[-1] / sides[0]) ** 2
    report.tables["Growth with the number of pixels"] = [
        {
            "image": f"{side}x{side}, batch {batch}",
            "ms": milliseconds(times[str(side)]),
            "time, x the smallest": ratio(times[str(side)], times[first]),
            "pixels, x the smallest": (side / sides[0]) ** 2,
        }
        for side in sides
    ]
    report.targets.append(
        Target("time / pixels, growth", ratio(times[last], times[first]) / pixels, at_most=1.15)
    )


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    torch.manual_seed(0)
    report = Report("explanation", "One explanation", options.device, options.quick)
    if options.quick:
        against_methods(report, size=32, batch=1, masks=10, rounds=1)
        over_convolutions(report, [("built-in U-Net", 32, 1)], rounds=1)
        growth(report, [16, 32], batch=1, rounds=1)
    else:
        against_methods(report, size=48, batch=1, masks=1000, rounds=7)
        against_methods(report, size=48, batch=8, masks=1000, rounds=3)
        cases = [("built-in U-Net", 48, 32), ("U-Net", 224, 4), ("paper's, quarter width", 48, 32)]
        over_convolutions(report, [*cases, ("paper's", 224, 4)], rounds=7)
        growth(report, [112, 224, 448], batch=4, rounds=7)
    report.save(options.output)


if __name__ == "__main__":
    main()
