"""Training on the accelerator, and what runs on it with no command."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn

from saliency_vae.baselines import Method, Oracle, RandomMap, Rise
from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import (
    CorrelatedNormal,
    ExponentialPrior,
    Family,
    KroneckerNormal,
    SaliencyPrior,
    SoftTVNormal,
)
from saliency_vae.evaluation.pointing.questions import ask_all
from saliency_vae.evaluation.pointing.two_objects import TWO_OBJECTS
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.encoders import PaperEncoder
from saliency_vae.models.refinement import explain_without_training
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.perturbations import Blur, Constant, Mean, Mixture, Noise, Other
from saliency_vae.topk import soft_topk
from saliency_vae.training.checkpoints import RunCheckpoints
from saliency_vae.training.finite_check import StopAtNonFinite
from saliency_vae.training.fit import fit
from saliency_vae.training.image_rate import ImageRate
from saliency_vae.training.panels import SaliencyPanels
from tests.conftest import (
    BlobsData,
    MakeModule,
    blob_classifier,
    blobs,
    make_module,
    make_trainer,
    objective,
)
from tests.devices.accelerator import NAME, answers
from tests.evaluation.pointing.test_two_objects import PAIRS

__all__ = ["make_module"]

DEVICE = torch.device(NAME, 0)
MIXTURE = Mixture([Blur(), Mean(), Noise(), Constant((0.5, 0.5, 0.5)), Other()])
ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "paper": lambda: PaperEncoder((8, 8)),
    "conditional": lambda: ConditionalUNet((4, 8)),
    "universal": lambda: UniversalUNet((4, 8)),
}
PRIORS: dict[str, Callable[..., SaliencyPrior]] = {
    "exponential": KroneckerNormal,
    "rbf": partial(KroneckerNormal, kernel="rbf", correlation=0.5),
    "matern32": partial(KroneckerNormal, kernel="matern32", correlation=0.5),
    "soft_tv": SoftTVNormal,
}


class _Accelerator(Accelerator):
    """What Lightning asks about a device."""

    def setup_device(self, device: torch.device) -> None: ...

    def teardown(self) -> None: ...

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [DEVICE]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_train(make_module: MakeModule, tmp_path: Path, encoder: str) -> None:
    conditional = encoder != "paper"
    explainer = Explainer(
        ENCODERS[encoder](),
        prior=ExponentialPrior(0.9) if conditional else partial(KroneckerNormal, correlation=0.9),
    )
    module = make_module(
        explainer=explainer,
        objective=objective(perturbation=MIXTURE),
        confidence_width=None if conditional else 4,
    )
    devices: list[torch.device] = []
    callbacks = [
        LambdaCallback(on_train_end=lambda trainer, module: devices.append(module.device)),
        RunCheckpoints(str(tmp_path), every_n_steps=2),
        StopAtNonFinite(2),
        ImageRate(2),
        SaliencyPanels(str(tmp_path), 2),
    ]
    trainer = make_trainer(
        tmp_path,
        callbacks,
        accelerator="auto",
        strategy=SingleDeviceStrategy(DEVICE, _Accelerator()),
        max_epochs=1,
    )
    data = BlobsData()
    trainer.fit(module, datamodule=data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, datamodule=data, ckpt_path=str(tmp_path / "last.ckpt"))
    assert devices == [DEVICE, DEVICE]


def test_fit_leaves_explainer_and_classifier_where_they_were(tmp_path: Path) -> None:
    classifier = blob_classifier().to(DEVICE)
    explainer = universal(classifier)
    strategy = SingleDeviceStrategy(DEVICE, _Accelerator())
    trainer = make_trainer(tmp_path, accelerator="auto", strategy=strategy, max_epochs=1)
    fit(explainer, classifier, list(blobs(4)), trainer=trainer)
    assert {p.device for p in (*explainer.parameters(), classifier.mean)} == {DEVICE}


def test_an_explainer_is_loaded_beside_its_classifier() -> None:
    explainer = load_explainer("universal", blob_classifier().to(DEVICE))
    assert {p.device for p in explainer.parameters()} == {DEVICE}
    with pytest.raises(ValueError, match=r"Expected images on .*, where the explainer is"):
        explainer(blobs(1).cpu())


@pytest.mark.parametrize(
    ("prior", "family"),
    [*((prior, "mean_field") for prior in PRIORS), ("exponential", "correlated")],
)
def test_explain_and_refine(prior: str, family: Family) -> None:
    classifier = blob_classifier()
    explainer = Explainer(PaperEncoder((8, 8)), prior=PRIORS[prior], posterior=family)
    explainer.add_confidence(
        {
            "_target_": "saliency_vae.models.confidence.ConfidenceNetwork",
            "classes": 4,
            "output": "softmax",
            "width": 4,
        }
    )
    assert explainer.confidence is not None
    explainer.confidence.depth.farthest.fill_(1.0)
    explainer.to(DEVICE)
    images = blobs(2).to(DEVICE)
    refined = explainer.refine(images, classifier, steps=1, objective=objective())
    assert classifier.mean.device == images.device
    assert refined.posterior.mean.device == refined.after.device == images.device
    for name in ("mean", "stddev", "confidence", "out_of_depth"):
        assert getattr(refined.posterior, name).device == images.device
    assert refined.posterior.inclusion_probability(0.1).device == images.device
    assert refined.posterior.map_agreement(0.1).device == images.device


def universal(classifier: FrozenClassifier) -> Explainer:
    return load_explainer("universal", classifier).to(DEVICE)


@pytest.mark.parametrize("target", [None, 3])
def test_refine_the_universal_explainer(target: int | None) -> None:
    classifier = blob_classifier()
    images = blobs(2).to(DEVICE)
    refined = universal(classifier).refine(images, classifier, target=target, steps=2)
    assert refined.posterior.mean.device == refined.after.device == images.device
    assert (refined.after <= refined.before).all()


@pytest.mark.parametrize("target", [None, 3])
def test_an_explanation_waits_for_the_check_of_the_images_alone(target: int | None) -> None:
    explainer, images = universal(blob_classifier()), blobs(2).to(DEVICE)
    explainer(images, target)  # moves the classifier
    answers.clear()
    posterior = explainer(images, target)
    assert len(answers) == 1
    expected = load_explainer("universal", blob_classifier())(blobs(2), target)
    torch.testing.assert_close(posterior.mean.cpu(), expected.mean, rtol=1e-3, atol=1e-3)


def test_a_step_of_training_waits_for_the_top_k_alone(make_module: MakeModule) -> None:
    module = make_module(
        explainer=Explainer(UniversalUNet((4, 8)), prior=ExponentialPrior(0.9)),
        objective=replace(objective(perturbation=MIXTURE), complement=1.0),
        confidence_width=None,
    ).to(DEVICE)
    images = blobs(4).to(DEVICE)
    module.step(images)
    answers.clear()
    torch.autograd.backward(module.step(images).terms.loss.mean())
    assert 1 <= len(answers) <= 6  # rounds of its search after those that are not asked for


@pytest.mark.parametrize("temperature", [1e-4, 0.03, 1.0])
def test_the_top_k_is_as_exact(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 2000, generator=generator, dtype=torch.float64)
    scores[1] = scores[1] ** 5
    scores[2, :300] += 5
    for k in (0.0, 1.0, 200.0, 1999.0, 2000.0):
        expected = soft_topk(scores, k, temperature=temperature)
        found = soft_topk(scores.to(DEVICE), k, temperature=temperature).cpu()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_inclusion_probability_is_that_of_the_cpu() -> None:
    mean = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    spread = torch.full_like(mean, -2.0)
    expected = CorrelatedNormal(mean, spread, KroneckerNormal(16, 16)).inclusion_probability(0.1)
    there = KroneckerNormal(16, 16, device=DEVICE)
    posterior = CorrelatedNormal(mean.to(DEVICE), spread.to(DEVICE), there)
    found = posterior.inclusion_probability(0.1)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("prior", [None, SoftTVNormal(16, 16, device=DEVICE)])
def test_explain_without_training(prior: SaliencyPrior | None) -> None:
    classifier = blob_classifier().to(DEVICE)
    images = blobs(2).to(DEVICE)
    found = explain_without_training(images, classifier, prior=prior, steps=1)
    assert found.posterior.mean.device == images.device


@pytest.mark.parametrize(
    "perturbation", [Blur(), Blur(2.0), Mean(), Noise(), Constant(), Other(), MIXTURE]
)
def test_baseline_images_of_training(perturbation: nn.Module) -> None:
    made: Tensor = perturbation(blobs(4).to(DEVICE))  # itself still on the CPU
    assert made.device == DEVICE


def test_two_objects() -> None:
    images = replace(PAIRS, device=DEVICE)
    network = nn.Sequential(nn.Flatten(), nn.Linear(images.dataset[0]["image"].numel(), 5))
    classifier = FrozenClassifier(network, name="linear").to(DEVICE)
    methods: dict[str, Method] = {"oracle": Oracle(), "rise": Rise(masks=4), "random": RandomMap()}
    answers = ask_all(TWO_OBJECTS, methods, images, classifier, keep=1)
    assert not answers.left_out
    assert answers.values["two_objects_point"].keys() == methods.keys()
