"""One training step, as Lightning runs it, against its parts timed alone in the same run.

The floor is what every implementation needs: the encoder forward and backward, the classifier on
the image, and the classifier on the perturbed image with the gradient to that image. The confidence
network, which the paper does not have, is a part of its own, with the additional pass of the
classifier that it needs.

python benchmarks/training_step.py [--quick]
"""

import logging
import statistics
import tempfile
import warnings
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from timing import (
    Report,
    Seconds,
    Target,
    arguments,
    has_bfloat16,
    milliseconds,
    ratio,
    seconds,
    stopwatch,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from saliency_vae.classifiers import FrozenClassifier, torchvision_classifier
from saliency_vae.data import Batch
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import ConfidenceNetwork, Explainer, PaperEncoder, distillation_loss
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur
from saliency_vae.topk import SoftTopK
from saliency_vae.training.module import Execution, VariationalSaliency

_MATHEMATICS = "sampling, top-k, perturbation, KL"
_CONFIDENCE = "confidence network"
LOG_EVERY = 50  # steps, the default of trainer.log_every_n_steps


class Pictures(Dataset[Batch]):
    """Data set of one random image, repeated."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.image = number, torch.rand(3, size, size)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Batch:
        return {"image": self.image}


class Given(nn.Module):
    """Encoder that costs nothing: it returns given maps (B, 2, H, W)."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps."""
        return self.maps


class Unclassified(nn.Module):
    """Classifier that costs almost nothing: the mean of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        """Mean of each channel, (B, 3)."""
        return images.mean((-2, -1))


class Parts(Callback):
    """Callback that times the parts of each step alone, and then the step."""

    def __init__(self, device: torch.device, warm_up: int) -> None:
        self.device = device
        self.warm_up = warm_up
        self.times: dict[str, Seconds] = {}
        self.overhead = FrozenClassifier(Unclassified(), name="free").to(device)

    def _note(self, name: str, value: float, batch_idx: int) -> None:
        if batch_idx >= self.warm_up:
            self.times.setdefault(name, []).append(value)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Time the parts; start the clock of the step."""
        module = pl_module
        assert isinstance(module, VariationalSaliency)
        images = batch["image"]
        if module.execution.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        encoder, classifier = module.explainer.encoder, module.classifier
        network = module.explainer.confidence
        assert network is not None
        leaf = images.clone().requires_grad_()
        maps = torch.randn(len(images), 2, *images.shape[-2:], device=self.device)
        maps.requires_grad_()
        precision = trainer.precision_plugin

        def encode() -> None:
            with precision.forward_context():
                output = encoder(images)
            output.backward(torch.ones_like(output))
            module.zero_grad()

        @torch.no_grad()
        def classify() -> Tensor:
            with precision.forward_context():
                return classifier(images)

        def classify_backward() -> None:
            with precision.forward_context():
                logits = classifier(leaf)
            torch.autograd.grad(logits.sum(), leaf)

        given = VariationalSaliency(
            Explainer(Given(maps), prior=module.explainer.make_prior),
            self.overhead,
            module.objective,
            module.make_optimizer,
        )

        def mathematics() -> None:
            """Sampling, top-k, perturbation, KL and their gradient: everything but the networks."""
            with precision.forward_context():
                loss = given.step(images).terms.loss
            torch.autograd.grad(loss.sum(), maps)

        def distil() -> None:
            with precision.forward_context():
                loss = distillation_loss(network, step.posterior, step.views, classifier).mean()
            torch.autograd.backward(loss)
            module.zero_grad()

        def log() -> None:
            with torch.no_grad(), precision.forward_context():
                module.measure("train", batch, step)

        with torch.no_grad(), precision.forward_context():
            step = module.step(images)
        parts = {
            "encoder, forward and backward": encode,
            "classifier, forward": classify,
            "classifier, forward and backward to the image": classify_backward,
            _MATHEMATICS: mathematics,
            _CONFIDENCE: distil,
            "measuring what is logged": log,
        }
        for name, part in parts.items():
            self._note(name, seconds(part, self.device), batch_idx)
        self.elapsed = stopwatch(self.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock of the step."""
        self._note("step", self.elapsed(), batch_idx)


def step_times(
    device: torch.device,
    *,
    quick: bool,
    size: int,
    batch: int,
    rounds: int,
    compiled: bool,
    precision: Any,
) -> dict[str, Seconds]:
    """Times of a step and of its parts."""
    warm_up = 0 if quick else 2
    parts = Parts(device, warm_up)
    fit(
        papers_module(quick=quick, size=size, compiled=compiled),
        DataLoader(Pictures((warm_up + rounds) * batch, size), batch_size=batch),
        [parts],
        device,
        precision=precision,
        log_every_n_steps=1_000_000,  # logging is timed by itself
    )
    return parts.times


def papers_module(*, quick: bool, size: int, compiled: bool) -> VariationalSaliency:
    """The paper's recipe with random weights, channels last."""
    torch.manual_seed(0)
    encoder = PaperEncoder([4, 2]) if quick else PaperEncoder()
    nn.init.normal_(encoder.head.weight, std=0.1)
    name = "resnet18" if quick else "resnet50"
    return VariationalSaliency(
        Explainer(
            encoder,
            prior=partial(KroneckerNormal, correlation=0.9),
            confidence=ConfidenceNetwork(1000),
        ),
        torchvision_classifier(name, weights=None),
        Objective(SoftTopK((0.05, 0.3)), Blur(size / 6), beta=0.1),
        partial(torch.optim.Adam, lr=1e-4, weight_decay=5e-4),
        execution=Execution(channels_last=True, compile=compiled),
    )


def fit(
    module: VariationalSaliency,
    batches: DataLoader[Batch],
    callbacks: list[Callback],
    device: torch.device,
    **settings: Any,
) -> None:
    """Train for one epoch on a device, quietly; settings are those of Lightning's Trainer."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
    warnings.filterwarnings("ignore", ".*validation_step.*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        settings.setdefault("devices", [device.index or 0] if device.type == "cuda" else 1)
        Trainer(
            accelerator=device.type,
            max_epochs=1,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=directory,
            **settings,
        ).fit(module, batches, weights_only=True)


def training_rate(device: torch.device, *, quick: bool) -> float:
    """Images a second of the step in float32, uncompiled."""
    batch, size = batch_and_size(device, quick=quick)
    times = step_times(
        device,
        quick=quick,
        size=size,
        batch=batch,
        rounds=1 if quick else 3,
        compiled=False,
        precision="32-true",
    )
    return batch / statistics.median(times["step"])


def batch_and_size(device: torch.device, *, quick: bool) -> tuple[int, int]:
    """Number of images of a step, and their height and width."""
    if quick:
        return 2, 32
    return 4 if device.type == "cpu" else 128, 224


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    device = options.device
    batch, size = batch_and_size(device, quick=options.quick)
    rounds = 1 if options.quick else 9
    report = Report(
        "training_step",
        "One training step, the paper's encoder and ResNet-50",
        device,
        options.quick,
    )
    bfloat16 = has_bfloat16(device) and not options.quick
    for precision in ("32-true", "bf16-mixed") if bfloat16 else ("32-true",):
        for compiled in (False,) if options.quick else (False, True):
            times = step_times(
                device,
                quick=options.quick,
                size=size,
                batch=batch,
                rounds=rounds,
                compiled=compiled,
                precision=precision,
            )
            add(report, times, f"{precision}, {'compiled' if compiled else 'eager'}", batch, size)
    report.save(options.output)


def add(report: Report, times: dict[str, Seconds], case: str, batch: int, size: int) -> None:
    """Add the table and targets of one case."""
    step = times["step"]
    logged = [t / LOG_EVERY for t in times.pop("measuring what is logged")]
    mathematics = times[_MATHEMATICS]
    names = [name for name in times if name not in ("step", _MATHEMATICS, _CONFIDENCE)]
    floor = [sum(values) for values in zip(*(times[name] for name in names), strict=True)]
    extra = [a + b for a, b in zip(mathematics, logged, strict=True)]
    times = times | {f"logging, every {LOG_EVERY} steps": logged, "encoder and classifier": floor}
    report.tables[f"{case}: batch {batch}, {size}x{size}, channels last"] = [
        {
            "": name,
            "ms": milliseconds(values),
            "% of the step": 100 * ratio(values, step),
            "images/s": batch / (milliseconds(values) / 1000) if name == "step" else None,
        }
        for name, values in times.items()
    ]
    parts = [sum(part) for part in zip(floor, extra, times[_CONFIDENCE], strict=True)]
    report.targets += [
        Target(f"{case}: step / sum of its parts", ratio(step, parts), at_most=1.03),
        Target(f"{case}: all but the networks, % of step", 100 * ratio(extra, step), at_most=1.5),
    ]


if __name__ == "__main__":
    main()
