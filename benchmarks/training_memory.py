"""Memory over 2,000 training steps: it must not grow.

The experiment on cluttered digits with smaller images and batches, including checkpoints, checks,
validation, pictures and logging.

python benchmarks/training_memory.py [--quick]
"""

import gc
import resource
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from timing import Report, Target, arguments

from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.models import Explainer, UNet
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur
from saliency_vae.runtime.loggers import MetricsCSV
from saliency_vae.topk import SoftTopK
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.finite_check import StopAtNonFinite
from saliency_vae.training.image_rate import ImageRate
from saliency_vae.training.module import VariationalSaliency
from saliency_vae.training.panels import SaliencyPanels

BATCH = 16


class Memory(Callback):
    """Records resident memory and the number of live tensors every ``every`` steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.rows: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Record a row."""
        if trainer.global_step % self.every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            gc.collect()
            row = {
                "steps": str(trainer.global_step),
                "resident MiB": pages * resource.getpagesize() / 2**20,
                "tensors": str(sum(type(o) is torch.Tensor for o in gc.get_objects())),
            }
            self.rows.append(row)


def main() -> None:
    """Measure."""
    options = arguments(__doc__)
    # Validation, pictures and counting tensors, once an epoch, take most of a quick run.
    steps, epochs, digits, shown = (8, 2, 64, 1) if options.quick else (2_000, 10, 640, 8)
    with tempfile.TemporaryDirectory() as name:
        run, memory = Path(name), Memory(steps // epochs)
        classifier = cluttered_digits_classifier(
            run / "classifier.safetensors", image_size=32, train_size=digits, epochs=1
        )
        module = VariationalSaliency(
            Explainer(UNet([4, 8, 16]), prior=partial(KroneckerNormal, correlation=0.9)),
            classifier,
            Objective(SoftTopK((0.05, 0.3), 0.03), Blur(8.0), 0.1),
            partial(torch.optim.Adam, lr=1e-3),
            confidence_width=4,
        )
        data = ClutteredDigitsData(
            32, train_size=BATCH * steps // epochs, val_size=64, batch_size=BATCH
        )
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=MetricsCSV(str(run / "metrics.csv")),
            callbacks=[
                RunCheckpoints(str(run), 200),
                StopAtNonFinite(),
                SaliencyPanels(str(run / "panels"), shown),
                ImageRate(),
                memory,
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data, weights_only=True)
    report = Report(
        "training_memory", "Memory of many training steps", options.device, options.quick
    )
    report.tables[f"32x32, batch {BATCH}"] = memory.rows
    grown = memory.rows[-1]["resident MiB"] / memory.rows[1]["resident MiB"]
    report.targets = [Target("at the end / after a fifth, resident memory", grown, at_most=1.02)]
    report.save(options.output)


if __name__ == "__main__":
    main()
