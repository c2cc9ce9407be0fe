"""Memory over 2,000 training steps: python benchmarks/training_memory.py.

The experiment on cluttered digits with smaller images and batches, with everything that a run
does: checkpoints, checks, validation, pictures and logging.
"""

import gc
import json
import resource
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from saliency_vae.callbacks import ImageRate, SaliencyPanels
from saliency_vae.checkpoints import RunCheckpoints
from saliency_vae.data.cluttered_digits import ClutteredDigitsData
from saliency_vae.digit_classifier import cluttered_digits_classifier
from saliency_vae.distributions import KroneckerNormal
from saliency_vae.encoders import UNet
from saliency_vae.explainer import Explainer
from saliency_vae.loggers import MetricsCSV
from saliency_vae.module import VariationalSaliency
from saliency_vae.non_finite import StopAtNonFinite
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Blur
from saliency_vae.topk import SoftTopK

STEPS = 2_000


class Memory(Callback):
    """Notes memory every 200 steps."""

    def __init__(self) -> None:
        self.resident: dict[int, float] = {}
        self.tensors: dict[int, int] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Note it."""
        if trainer.global_step % 200 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.resident[trainer.global_step] = round(pages * resource.getpagesize() / 2**20, 1)
            gc.collect()
            self.tensors[trainer.global_step] = sum(
                type(o) is torch.Tensor for o in gc.get_objects()
            )


def main() -> None:
    """Print resident memory, in MiB, and the number of live tensors."""
    with tempfile.TemporaryDirectory() as name:
        run, memory = Path(name), Memory()
        classifier = cluttered_digits_classifier(
            run / "classifier.safetensors", image_size=32, train_size=640, epochs=1
        )
        module = VariationalSaliency(
            Explainer(UNet([4, 8, 16]), prior=partial(KroneckerNormal, correlation=0.9)),
            classifier,
            Objective(SoftTopK((0.05, 0.3), 0.03), Blur(8.0), 0.1),
            partial(torch.optim.Adam, lr=1e-3),
        )
        data = ClutteredDigitsData(32, train_size=3200, val_size=64, batch_size=16)
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=STEPS // 200,
            logger=MetricsCSV(str(run / "metrics.csv")),
            callbacks=[
                RunCheckpoints(str(run), 200),
                StopAtNonFinite(),
                SaliencyPanels(str(run / "panels")),
                ImageRate(),
                memory,
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, datamodule=data)
    print(json.dumps({"resident_mib": memory.resident, "tensors": memory.tensors}))


if __name__ == "__main__":
    main()
