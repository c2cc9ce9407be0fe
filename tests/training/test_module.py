"""The LightningModule: what learns, what does not, and that a resumed run is the same run."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from saliency_vae.distributions import CorrelatedNormal, KroneckerNormal
from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.explainer import Explainer
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.objective import Objective
from saliency_vae.perturbations import Mean, Noise
from saliency_vae.topk import SoftTopK
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.module import Execution, VariationalSaliency
from tests.conftest import (
    BlobsData,
    MakeModule,
    blob_classifier,
    blobs,
    make_trainer,
    objective,
)
from tests.helpers import tiny_universal


class StopAfterFirstEpoch(Callback):
    """Interrupt a run of several epochs."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


def checkpoints(run: Path) -> list[Callback]:
    return [RunCheckpoints(str(run), every_n_steps=100)]


def test_gradients_reach_the_encoder_and_never_the_classifier(make_module: MakeModule) -> None:
    module = make_module(objective=objective(beta=0.0))  # the reconstruction alone must carry them
    module.step(blobs()).terms.loss.mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.explainer.encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert module.explainer.encoder.head.weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert all(p.grad is None and not p.requires_grad for p in module.classifier.parameters())


def test_the_classifier_stays_in_eval_and_out_of_the_checkpoint(make_module: MakeModule) -> None:
    module = make_module()
    module.train()
    assert not any(part.training for part in module.classifier.modules())
    assert {name.split(".")[0] for name in module.state_dict()} == {"explainer"}
    assert len(list(module.parameters())) == len(list(module.explainer.encoder.parameters()))
    state = module.state_dict()
    state.popitem()
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict(state)


def test_the_classifier_moves_with_the_module(make_module: MakeModule) -> None:
    module = make_module()
    module.to(torch.float64)
    assert all(p.dtype == torch.float64 for p in module.classifier.parameters())


def test_loss_is_reconstruction_plus_weighted_kl(make_module: MakeModule) -> None:
    for posterior in ("mean_field", "correlated"):
        module = make_module(posterior=posterior, objective=objective(beta=0.3))
        terms = module.step(blobs()).terms
        assert terms.loss.shape == (8,)
        torch.testing.assert_close(terms.loss, terms.reconstruction + 0.3 * terms.kl)
        assert (terms.reconstruction >= 0).all()
        assert (terms.kl >= 0).all()


@pytest.mark.parametrize("posterior", ["mean_field", "correlated"])
def test_overfits_one_batch(make_module: MakeModule, posterior: str) -> None:
    module = make_module(posterior=posterior, objective=objective(beta=1e-3))
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    images = blobs(16)
    losses = []
    for _ in range(150):
        terms = module.step(images).terms
        optimizer.zero_grad()
        terms.loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(terms.reconstruction.mean().item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])


def test_correlated_posterior_uses_the_objectives_prior(make_module: MakeModule) -> None:
    module = make_module(posterior="correlated")
    posterior = module.step(blobs()).posterior
    assert isinstance(posterior, CorrelatedNormal)
    assert posterior.prior is module.explainer.prior(blobs())


class Own(nn.Module):
    """A perturbation with a tensor of its own and a layer that differs in training."""

    grey: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("grey", torch.full((3, 1, 1), 0.5))
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        whitened: Tensor = self.norm(images)
        return 0 * whitened + self.grey


def test_a_perturbation_of_ones_own_is_frozen_and_moves_along(make_module: MakeModule) -> None:
    own = Own()
    module = make_module(objective=objective(perturbation=own)).train()
    module.step(blobs()).terms.loss.mean().backward()  # type: ignore[no-untyped-call]
    assert not own.norm.training
    assert not own.norm.running_mean.any()  # type: ignore[union-attr]
    assert all(p.grad is None for p in own.parameters())
    assert not any("norm" in name or "grey" in name for name in module.state_dict())
    module.to("meta")
    assert own.grey.is_meta


class Plain(LightningDataModule):
    """A data module that knows nothing of this package."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([{"image": image} for image in blobs()], batch_size=4)  # type: ignore[arg-type]  # a list is no Dataset


@pytest.mark.filterwarnings("ignore:.*(val_dataloader|train_dataloader).*workers:UserWarning")
@pytest.mark.filterwarnings("ignore:.*validation_step.*but have no:UserWarning")
def test_trains_on_an_ordinary_data_module(make_module: MakeModule, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(make_module(), datamodule=Plain())
    assert trainer.global_step == 2


def test_the_active_fraction_is_that_of_the_soft_mask(make_module: MakeModule) -> None:
    topk = SoftTopK((0.1, 0.1), 0.3, straight_through=True)
    module = make_module(objective=replace(objective(), topk=topk))
    step = module.step(blobs())
    measured = module.measure("train", {"image": blobs()}, step)
    assert float(step.views.mask.detach().mean()) == pytest.approx(0.1, abs=0.01)
    assert measured["train/topk_active_fraction"] > 0.1


def test_what_has_a_weight_is_measured(make_module: MakeModule) -> None:
    images = blobs(4)
    for weight, measured in ((0.0, set()), (0.5, {"val/complement", "val/mean_penalty"})):
        weighted = replace(objective(), complement=weight, mean_penalty=weight)
        module = make_module(objective=weighted)
        found = module.measure("val", {"image": images}, module.step(images))
        assert found.keys() & {"val/complement", "val/mean_penalty"} == measured


def test_measures_everything_that_is_logged(make_module: MakeModule, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(make_module(), datamodule=BlobsData())
    names = ["loss", "reconstruction", "kl", "kl_above_floor", "stddev", "topk_active_fraction"]
    names += ["agreement_10"]
    expected = {f"{stage}/{name}" for stage in ("train", "val") for name in names}
    # Each is one more pass of the classifier: in training one has to do.
    expected |= {"val/agreement_5", "val/agreement_20"}
    assert expected <= set(trainer.callback_metrics)
    assert "train/agreement_5" not in trainer.callback_metrics
    values = trainer.callback_metrics
    assert 0 <= values["val/kl_above_floor"] < values["val/kl"]
    assert 0 <= values["val/agreement_5"] <= 1


def train_two_epochs(
    run: Path, module: VariationalSaliency, interrupted: bool
) -> dict[str, Tensor]:
    if interrupted:
        callbacks = [*checkpoints(run), StopAfterFirstEpoch()]
        make_trainer(run, callbacks, max_epochs=2).fit(module, datamodule=BlobsData())
        for parameter in module.parameters():
            parameter.data.zero_()  # all that counts must come from the checkpoint
        torch.manual_seed(123)
    trainer = make_trainer(run, checkpoints(run), max_epochs=2)
    last = run / "last.ckpt" if interrupted else None
    trainer.fit(module, datamodule=BlobsData(), ckpt_path=last)
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_resumed_run_is_the_uninterrupted_run(make_module: MakeModule, tmp_path: Path) -> None:
    one_cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-2)
    settings = {"scheduler": one_cycle, "objective": objective(perturbation=Noise())}
    whole = train_two_epochs(tmp_path / "a", make_module(**settings), interrupted=False)
    parts = train_two_epochs(tmp_path / "b", make_module(**settings), interrupted=True)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_all_ranks_take_one_copy_in_the_same_steps_with_noise_of_their_own(
    make_module: MakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would wait for the rank that takes more."""
    draw = UniversalUNet._noise
    drawn: list[Tensor] = []

    def draw_and_keep(self: UniversalUNet, images: Tensor) -> Tensor:
        drawn.append(draw(self, images))
        return drawn[-1]

    monkeypatch.setattr(UniversalUNet, "_noise", draw_and_keep)
    of_ranks = []
    for rank in range(2):
        monkeypatch.setattr(VariationalSaliency, "global_rank", rank)
        explainer = tiny_universal.build(blob_classifier()).train()
        trainer = make_trainer(tmp_path, max_steps=5, limit_val_batches=0)
        trainer.fit(make_module(explainer=explainer), datamodule=BlobsData())
        of_ranks.append(drawn.copy())
        drawn.clear()
    first, second = of_ranks
    assert [len(noise) for noise in first] == [len(noise) for noise in second] == [1, 0, 1, 0, 1]
    assert not torch.equal(first[0], second[0])


def test_best_is_the_lowest_validation_loss_and_not_the_last(
    make_module: MakeModule, tmp_path: Path
) -> None:
    module = make_module(optimizer=partial(torch.optim.Adam, lr=1e-2, maximize=True))
    trainer = make_trainer(tmp_path, checkpoints(tmp_path), max_epochs=3)
    trainer.fit(module, datamodule=BlobsData())
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (best["epoch"], last["epoch"]) == (0, 2)
    assert best["metrics"]["val/loss"] < last["metrics"]["val/loss"]


def test_resuming_with_another_classifier_is_refused(
    make_module: MakeModule, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, checkpoints(tmp_path), max_epochs=1)
    trainer.fit(make_module(), datamodule=BlobsData())
    other = make_module(classifier=blob_classifier(seed=1))
    resumed = make_trainer(tmp_path, max_epochs=2)
    with pytest.raises(ValueError, match="Expected ckpt_path to be a checkpoint for this run's"):
        resumed.fit(other, datamodule=BlobsData(), ckpt_path=tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("attribute", "value", "named"),
    [("output", "sigmoid", "output"), ("mean", torch.ones(3, 1, 1), "mean")],
)
def test_resuming_with_another_reading_of_the_same_network_is_refused(
    make_module: MakeModule, tmp_path: Path, attribute: str, value: Any, named: str
) -> None:
    trainer = make_trainer(tmp_path, checkpoints(tmp_path), max_epochs=1)
    trainer.fit(make_module(), datamodule=BlobsData())
    other = blob_classifier()
    setattr(other, attribute, value)
    resumed = make_trainer(tmp_path, max_epochs=2)
    with pytest.raises(ValueError, match=rf"this run's classifier .*, another {named}\.$"):
        resumed.fit(
            make_module(classifier=other),
            datamodule=BlobsData(),
            ckpt_path=tmp_path / "last.ckpt",
        )


def test_resuming_with_other_settings_of_the_explainer_is_refused(
    make_module: MakeModule, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "beta": 0.1,
        "encoder": {"_target_": "saliency_vae.models.encoders.PaperEncoder", "channels": [8, 8]},
        "perturbation": {"_target_": "saliency_vae.perturbations.Blur", "sigma": 8.0},
        "prior": {
            "_target_": "saliency_vae.distributions.learned_prior.ExponentialPrior",
            "correlation": 0.9,
        },
    }

    def fit(ckpt_path: Path | None = None, **changed: Any) -> None:
        module = make_module()
        module.explainer.recorded = ExplainerConfig(**config | changed)
        make_trainer(tmp_path, checkpoints(tmp_path), max_epochs=1).fit(
            module, datamodule=BlobsData(), ckpt_path=ckpt_path, weights_only=True
        )

    fit()
    before = (tmp_path / "last.ckpt").read_bytes()
    changed = {
        "beta": 7,
        "perturbation": {"_target_": "saliency_vae.perturbations.Mean"},
        "prior": {
            "_target_": "saliency_vae.distributions.learned_prior.ExponentialPrior",
            "correlation": 0.5,
        },
        "mean_penalty": 0.5,
    }
    with pytest.raises(ValueError, match="Expected a run that goes on with") as refused:
        fit(tmp_path / "last.ckpt", **changed)
    assert str(refused.value).partition("settings, ")[2] == (
        "prior.correlation=0.9, perturbation=blur, beta=0.1, mean_penalty=0.0. "
        "Found prior.correlation=0.5, perturbation=mean, beta=7, mean_penalty=0.5."
    )
    assert (tmp_path / "last.ckpt").read_bytes() == before
    fit(tmp_path / "last.ckpt")  # and with the same settings it goes on


def test_bf16_keeps_the_mathematics_in_float32(make_module: MakeModule) -> None:
    module = make_module(posterior="correlated")
    torch.manual_seed(0)
    full = module.step(blobs()).terms
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        step = module.step(blobs())
    views = step.views
    for tensor in (step.posterior.mean, views.mask, views.baseline, views.original):
        assert tensor.dtype == torch.float32
    assert step.terms.loss.dtype == torch.float32
    torch.testing.assert_close(step.terms.loss, full.loss, rtol=0.05, atol=0.01)


def test_channels_last_and_compile_change_nothing_but_speed(make_module: MakeModule) -> None:
    plain, fast = make_module(), make_module(execution=Execution(channels_last=True, compile=True))
    fast.load_state_dict(plain.state_dict())  # the same names, compiled or not
    torch.manual_seed(0)
    expected = plain.step(blobs()).terms.loss
    torch.manual_seed(0)
    torch.testing.assert_close(fast.step(blobs()).terms.loss, expected, rtol=1e-4, atol=1e-5)


def test_a_schedule_for_another_number_of_steps_is_refused(
    make_module: MakeModule, tmp_path: Path
) -> None:
    one_cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=1e-2)
    trainer = make_trainer(tmp_path, checkpoints(tmp_path), max_epochs=1)
    trainer.fit(make_module(scheduler=one_cycle), datamodule=BlobsData())
    longer = make_trainer(tmp_path, checkpoints(tmp_path), max_epochs=2)
    module = make_module(scheduler=one_cycle)
    with pytest.raises(ValueError, match=r"max_epochs to give the 4 steps.* Found 8 steps"):
        longer.fit(module, datamodule=BlobsData(), ckpt_path=tmp_path / "last.ckpt")


def test_every_map_starts_as_noise_around_zero(make_module: MakeModule) -> None:
    posterior = make_module().step(blobs()).posterior
    assert (posterior.mean == 0).all()
    assert (posterior.stddev == 1).all()


class Watched(SoftTopK):
    """Notes the temperature of each call."""

    def __init__(self) -> None:
        super().__init__((0.1, 0.3), temperature=0.05, initial_temperature=0.5)
        self.used: list[float | None] = []

    def soft(
        self,
        saliency: Tensor,
        *,
        temperature: float | None = None,
        uniform: Tensor | None = None,
    ) -> Tensor:
        self.used.append(temperature)
        return super().soft(saliency, temperature=temperature, uniform=uniform)


def test_the_temperature_falls_in_the_first_half_and_is_final_in_validation(
    make_module: MakeModule, tmp_path: Path
) -> None:
    topk = Watched()
    module = make_module(objective=Objective(topk, Mean(), beta=0.01))
    make_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(module, datamodule=BlobsData())
    training = [temperature for temperature in topk.used if temperature is not None]
    assert training == pytest.approx([0.5 * 0.1 ** min(1, step / 4) for step in range(8)])
    assert topk.used.count(None) == 4  # two epochs of two validation batches, at the final one


def test_a_test_measures_at_the_final_temperature(make_module: MakeModule, tmp_path: Path) -> None:
    topk = Watched()
    module = make_module(objective=Objective(topk, Mean(), beta=0.01))
    data = BlobsData()
    data.test_set = data.val_set
    make_trainer(tmp_path).test(module, datamodule=data, verbose=False)
    assert topk.used == [None, None]


def test_the_prediction_in_the_signals_is_not_computed_again(make_module: MakeModule) -> None:
    prior = partial(KroneckerNormal, correlation=0.9)
    module = make_module(explainer=Explainer(ConditionalUNet((4,)), prior=prior))
    images = blobs(4)
    seen: list[int] = []
    first = module.classifier.network.get_submodule("0")
    handle = first.register_forward_hook(lambda *call: seen.append(len(call[2])))
    step = module.step(images)
    handle.remove()
    assert seen == [8, 4]  # the images half and whole, then perturbed
    torch.testing.assert_close(step.views.original, module.classifier(images))
