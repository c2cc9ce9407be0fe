"""Training on the device: as on the CPU, in bfloat16, channels last and compiled, without leaks."""

import gc
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from saliency_vae.distributions import DiagonalNormal
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Mean
from saliency_vae.topk import SoftTopK
from saliency_vae.training.module import Execution
from tests.conftest import BlobsData, MakeModule, blobs, make_trainer
from tests.gpu.conftest import train_digits

pytestmark = pytest.mark.gpu
COMPILED = Execution(channels_last=True, compile=True)


def gradients(make_module: MakeModule, device: torch.device) -> dict[str, Tensor]:
    """Loss and gradients of one step whose noise is zero, on the CPU."""
    module = make_module(objective=Objective(SoftTopK((0.2, 0.2), temperature=0.1), Mean(), 0.3))
    module.to(device)
    loss = module.step(blobs().to(device)).terms.loss.mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    named = module.explainer.encoder.named_parameters()
    found = {name: p.grad for name, p in named if p.grad is not None}
    return {"loss": loss.detach().cpu()} | {name: grad.cpu() for name, grad in found.items()}


@pytest.mark.usefixtures("plain_float32")
def test_a_step_is_that_of_the_cpu(
    make_module: MakeModule, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noiseless(posterior: DiagonalNormal, *_: Any, **__: Any) -> Tensor:
        return posterior.mean[None]  # one sample of each image

    monkeypatch.setattr(DiagonalNormal, "rsample", noiseless)
    expected = gradients(make_module, torch.device("cpu"))
    found = gradients(make_module, device)
    assert found.keys() == expected.keys()
    assert len(found) > 4
    largest = max(value.abs().max() for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4 * float(largest))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("execution", [Execution(), Execution(channels_last=True), COMPILED])
def test_trains(
    precision: Any,
    execution: Execution,
    make_module: MakeModule,
    device: torch.device,
    tmp_path: Path,
) -> None:
    module = make_module(execution=execution)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = make_trainer(
        tmp_path, accelerator=_accelerator(device), max_epochs=2, precision=precision
    )
    trainer.fit(module, datamodule=BlobsData())
    assert math.isfinite(trainer.callback_metrics["train/loss"])
    assert math.isfinite(trainer.callback_metrics["val/loss"])
    after = {name: value.cpu() for name, value in module.state_dict().items()}
    assert all(value.isfinite().all() for value in after.values())
    weights = [name for name in before if name.endswith("weight")]
    assert not any(torch.equal(before[name], after[name]) for name in weights)


@pytest.mark.parametrize("encoder", ["conditional_unet", "unet"])
def test_the_command_trains_in_bfloat16(encoder: str, device: torch.device, tmp_path: Path) -> None:
    explainer = train_digits(tmp_path, device, f"encoder={encoder}", "trainer.precision=bf16-mixed")
    assert (explainer / "model.safetensors").is_file()


class Allocated(Callback):
    """Records the device's memory in use, in bytes, at the end of each epoch."""

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        gc.collect()
        torch.cuda.synchronize()
        self.bytes.append(torch.cuda.memory_allocated())


def test_memory_does_not_grow(make_module: MakeModule, gpu: torch.device, tmp_path: Path) -> None:
    allocated = Allocated()
    few_validations = {"max_epochs": 125, "check_val_every_n_epoch": 5}
    trainer = make_trainer(tmp_path, [allocated], accelerator=_accelerator(gpu), **few_validations)
    trainer.fit(make_module(), datamodule=BlobsData(batch_size=4))
    assert trainer.global_step == 1000
    # Metrics grow and shrink by a few tensors; one float kept of each step would be 480 KiB.
    assert allocated.bytes[-1] - allocated.bytes[4] < 2**16


def _accelerator(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "gpu"
