"""The universal explainer: an explanation and a training step, against the passes that they need.

An explanation is compared with one pass of the same classifier forward and back, to the images, and
a training step with its classifier passes, each kind in one batch, and its encoder, timed alone.

python benchmarks/universal.py [--quick] [--seconds SECONDS]
"""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timing import (
    Report,
    Seconds,
    Target,
    interleaved,
    milliseconds,
    parser,
    peak_mib,
    ratio,
    seconds,
    synchronize,
)
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from saliency_vae import load_explainer
from saliency_vae.classifiers import (
    FrozenClassifier,
    efficientnet_lite_classifier,
    torchvision_classifier,
)
from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.classifiers.passes import counted_passes
from saliency_vae.distributions import ExponentialPrior
from saliency_vae.models import Explainer
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur, Mean, Mixture, Noise
from saliency_vae.runtime.device import pick_device
from saliency_vae.topk import SoftTopK
from saliency_vae.training.module import Execution, VariationalSaliency

Call = Callable[[], object]

COPIES = {1: 2.2, 4: 9.0}  # and the longest that an explanation may take, in passes
_LEVELS = 2  # views of each copy
_PARTS = ("explanation", "signals", "encoder")
_ONE_PASS, _TWO_PASSES = "classifier, 1 pass forward and back", "2 passes forward and back"
_FEWEST, _MOST = 3, 25  # rounds
_SECONDS = 40.0  # for all cases; on a GPU, whose time is short, no case is begun after them


@dataclass(frozen=True)
class Case:
    """A classifier, and the images that are explained.

    Attributes:
        classifier: Classifier with random weights.
        name: Its name in the tables.
        size: Height and width of the images in pixels.
        batch: Number of images.
    """

    classifier: FrozenClassifier
    name: str
    size: int
    batch: int

    def __str__(self) -> str:
        """Name of the case in the tables."""
        return f"{self.name}, {self.size}x{self.size}, batch {self.batch}"


def resnet(name: str = "resnet50") -> FrozenClassifier:
    """A ResNet of torchvision with random weights."""
    return torchvision_classifier(name, weights=None)


def cases(device: torch.device, *, quick: bool) -> list[tuple[Case, float]]:
    """Cases to time, each with its share of the time."""
    digits = FrozenClassifier(DigitNet(), name="digits").to(device)
    if quick:
        return [(Case(digits, "digits", 48, 1), 1)]
    large = resnet().to(device)
    found = [(Case(large, "ResNet-50", 224, 1), 2.0), (Case(digits, "digits", 48, 1), 1.0)]
    if device.type != "cpu":
        found.append((Case(large, "ResNet-50", 224, 16), 2.0))
    return [*found, (Case(digits, "digits", 48, 16), 1.0)]


def timed(functions: Mapping[str, Call], device: torch.device, budget: float) -> dict[str, Seconds]:
    """Time functions in turn, in as many rounds (3 to 25) as a budget of seconds allows.

    A budget of 0 gives one round.
    """
    if not budget:
        return interleaved(functions, device, rounds=1)
    for function in functions.values():
        function()
    once = sum(max(seconds(function, device), 0.02) for function in functions.values())
    rounds = int(min(max(budget / once - 4, _FEWEST), _MOST))
    return interleaved(functions, device, rounds=rounds)


def forward_and_back(classifier: FrozenClassifier, images: Tensor) -> None:
    """Run a classifier forward, and backward from its decision to the images."""
    leaf = images.detach().requires_grad_()
    torch.autograd.grad(classifier(leaf).amax(-1).sum(), leaf)


def counts(function: Call, device: torch.device, batch: int) -> dict[str, Any]:
    """Classifier passes and memory of a call; on a GPU also its kernels and synchronisations."""
    with counted_passes() as passes:
        function()
    row = {
        "classifier passes an image": passes.number // batch,
        "peak MiB": peak_mib(function, device),
    }
    if device.type != "cuda":
        return row
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        function()
        synchronize(device)
    kernels = sum(event.count for event in profiled.key_averages())
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            function()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = sum("called a synchronizing" in str(warning.message) for warning in found)
    return row | {"kernels": kernels, "waits for the GPU": waits}


def explanations(report: Report, case: Case, budget: float) -> None:
    """Time explanations of one and of four copies, and their parts."""
    device, classifier = report.device, case.classifier
    images = torch.rand(case.batch, 3, case.size, case.size, device=device)
    views = images.repeat(_LEVELS, 1, 1, 1)
    functions: dict[str, Call] = {
        _ONE_PASS: partial(forward_and_back, classifier, images),
        _TWO_PASSES: partial(forward_and_back, classifier, views),
    }
    for number in COPIES:
        functions |= parts_of_explanation(classifier, images, number)
    times = timed(functions, device, budget)
    rows = report.tables[str(case)] = [
        {
            "": name,
            "ms": milliseconds(times[name]),
            "x one pass": ratio(times[name], times[_ONE_PASS]),
            **counts(function, device, case.batch),
        }
        for name, function in functions.items()
    ]
    for number, most in COPIES.items():
        whole, *parts = (times[f"{part}, {said(number)}"] for part in _PARTS)
        rest = [max(a - sum(b), 0.0) for a, *b in zip(whole, *parts, strict=True)]
        name = f"rest of the explanation, {said(number)}"
        over_one = ratio(rest, times[_ONE_PASS])
        rows.append({"": name, "ms": milliseconds(rest), "x one pass": over_one})
        floor, goal = (_ONE_PASS, most) if case.size > 48 else (_TWO_PASSES, 1.5)
        if case.batch == 1 and (number == 1 or floor == _ONE_PASS):
            what = f"explanation, {said(number)} / {floor}; {case}"
            report.targets.append(Target(what, ratio(whole, times[floor]), at_most=goal))


def said(copies: int) -> str:
    """Number of copies in words."""
    return "1 copy" if copies == 1 else f"{copies} copies"


def parts_of_explanation(
    classifier: FrozenClassifier, images: Tensor, copies: int
) -> dict[str, Call]:
    """Functions that run a universal explanation, and each of its parts alone."""
    explainer = load_explainer("universal", classifier).to(images.device)
    assert isinstance(explainer.encoder, UniversalUNet)
    explainer.encoder.copies = copies
    signals = explainer.signals(images)

    def explain() -> Tensor:
        posterior = explainer(images)
        return torch.stack((posterior.mean, posterior.stddev))

    calls: tuple[Call, ...] = (
        explain,
        partial(explainer.signals, images),
        partial(explainer.encoder, images, signals),
    )
    return {f"{part}, {said(copies)}": call for part, call in zip(_PARTS, calls, strict=True)}


def universal_module(classifier: FrozenClassifier, copies: int) -> VariationalSaliency:
    """The recipe of experiment=universal for one classifier, with random weights."""
    torch.manual_seed(0)
    encoder = UniversalUNet(copies=copies, output_stride=2)
    torch.nn.init.normal_(encoder.unet.head.weight, std=0.1)
    return VariationalSaliency(
        Explainer(encoder, prior=ExponentialPrior(0.95), posterior="correlated"),
        classifier,
        Objective(
            SoftTopK((0.1, 0.9)),
            Mixture([Blur(), Mean(), Noise()]),
            beta=0.05,
            complement=1.0,
            mean_penalty=0.1,
        ),
        partial(torch.optim.Adam, lr=2e-3),
        execution=Execution(channels_last=True),
    )


def trained_case(device: torch.device, *, quick: bool, size: int = 128) -> Case:
    """Classifier and images of the training step."""
    if quick:
        return Case(FrozenClassifier(DigitNet(), name="digits"), "digits", 48, 2)
    batch = 4 if device.type == "cpu" else 48
    try:
        classifier = efficientnet_lite_classifier("lite0", size)
        return Case(classifier, "EfficientNet-Lite0", size, batch)
    except ValueError:  # its packages are not installed
        return Case(resnet("resnet18"), "ResNet-18", size, batch)


def parts_of_step(module: VariationalSaliency, images: Tensor, copies: int) -> dict[str, Call]:
    """Functions that run a training step, and its classifier passes and encoder alone."""
    explainer, classifier = module.explainer, module.classifier
    with torch.no_grad():
        signals = explainer.signals(images)

    def step() -> None:
        torch.autograd.backward(module.step(images).terms.loss.mean())
        module.zero_grad()

    def encoder() -> None:
        maps = explainer.encoder(images, signals)
        maps.backward(torch.ones_like(maps))
        module.zero_grad()

    at_once = 1 if images.device.type == "cpu" else copies  # a CPU takes one copy after the other
    views = images.repeat(_LEVELS * at_once, 1, 1, 1)

    def signal_passes() -> None:
        for _ in range(copies // at_once):
            forward_and_back(classifier, views)

    both = images.repeat(2, 1, 1, 1)
    return {
        "step": step,
        f"classifier, signals: {_LEVELS * copies} passes forward and back": signal_passes,
        "classifier, kept and left-out view: 2 passes forward and back": partial(
            forward_and_back, classifier, both
        ),
        "classifier, baseline image: 1 pass forward": partial(torch.no_grad()(classifier), images),
        "encoder, forward and backward": encoder,
    }


def training_step(report: Report, copies: int, budget: float) -> None:
    """Time a step against the sum of its parts."""
    device, case = report.device, trained_case(report.device, quick=report.quick)
    module = universal_module(case.classifier, copies).to(device)
    images = torch.rand(case.batch, 3, case.size, case.size, device=device)
    functions = parts_of_step(module, images.contiguous(memory_format=torch.channels_last), copies)
    times = timed(functions, device, budget)
    floor = [sum(values) for values in zip(*list(times.values())[1:], strict=True)]
    rows = report.tables[f"Training step: {case}, {said(copies)}, channels last"] = [
        {
            "": name,
            "ms": milliseconds(times[name]),
            "x the sum of the parts": ratio(times[name], floor),
            **counts(function, device, case.batch),
        }
        for name, function in functions.items()
    ]
    rows.append({"": "sum of the parts", "ms": milliseconds(floor), "x the sum of the parts": 1.0})
    what = f"training step / sum of its parts, {said(copies)}; {case}"
    report.targets.append(Target(what, ratio(times["step"], floor), at_most=1.1))


def recipe_rate(device: torch.device, *, quick: bool) -> float:
    """Images a second of the recipe's step at 224x224, with one copy, which is the fastest."""
    case = trained_case(device, quick=quick, size=224)
    module = universal_module(case.classifier, 1).to(device)
    images = torch.rand(case.batch, 3, case.size, case.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    step = {"step": parts_of_step(module, images, 1)["step"]}
    (times,) = interleaved(step, device, rounds=1 if quick else 5).values()
    return case.batch / statistics.median(times)


def main() -> None:
    """Measure case by case; after each one, the report is written."""
    begun = time.monotonic()
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, help="after which no case is begun")
    given = options.parse_args()
    device, quick = pick_device(given.device), given.quick
    planned = _SECONDS if given.seconds is None else given.seconds
    limited = given.seconds is not None or device.type != "cpu"
    torch.manual_seed(0)
    report = Report("universal", "The universal explainer", device, quick)
    found = cases(device, quick=quick)
    copies = (1,) if quick else (1, 4)
    jobs = [(partial(explanations, report, case), share) for case, share in found]
    jobs[1:1] = [(partial(training_step, report, number), 2.0) for number in copies]
    budget = 0.0 if quick else 0.8 * planned / sum(share for _, share in jobs)
    for job, share in jobs:
        if limited and report.tables and time.monotonic() - begun > planned:
            break
        job(budget=share * budget)
        report.save(given.output)


if __name__ == "__main__":
    main()
