"""The network that imitates the classifier, and what its confidence is worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from scipy.special import expit  # type: ignore[import-untyped]
from torch import Tensor, nn

from saliency_vae.distributions import Family, KroneckerNormal
from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.confidence import CONFIDENCE_FRACTION, ConfidenceNetwork, kept_view
from saliency_vae.models.distillation import agreement_score, calibrate, distillation_loss
from saliency_vae.models.encoders import PaperEncoder, UNet
from saliency_vae.models.explainer import Explainer
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.perturbations import Blur, perturb
from tests.conftest import (
    Blobs,
    BlobsData,
    MakeModule,
    blob_classifier,
    blobs,
    make_trainer,
    objective,
)
from tests.helpers.masked_views import masked_views, sufficiency
from tests.models.test_explainer import configuration, trained_explainer


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_the_score_is_the_log_odds_that_two_answers_agree(output: Any) -> None:
    network = ConfidenceNetwork(3, output, width=2).eval()
    images, mask = blobs(4), draw(4, 16, 16) > 1
    kept = perturb(images, mask, Blur(16 / 6)(images))
    found = network.score(images, kept)
    for image in range(4):
        logits = [network.imitate(x[image : image + 1])[0].tolist() for x in (images, kept)]
        if output == "softmax":
            first, second = (torch.tensor(row).softmax(0).tolist() for row in logits)
            agree = sum(p * q for p, q in zip(first, second, strict=True))
        else:
            agree = 1.0
            for p, q in zip(*(expit(row) for row in logits), strict=True):
                agree *= p * q + (1 - p) * (1 - q)
        expected = torch.logit(torch.tensor(agree, dtype=torch.float32))
        torch.testing.assert_close(found[image], expected, rtol=1e-4, atol=1e-4)
    confidence = network(images, kept)
    torch.testing.assert_close(confidence, found.sigmoid())  # before any calibration


def platts_targets(agreed: Tensor) -> Tensor:
    """One by one, as Platt writes them."""
    successes = sum(agreed.tolist())
    failures = len(agreed) - successes
    return torch.tensor(
        [(successes + 1) / (successes + 2) if a else 1 / (failures + 2) for a in agreed.tolist()],
        dtype=torch.float64,
    )


def test_calibration_is_the_likeliest() -> None:
    """Where the gradient of the likelihood of Platt's targets is zero; and it finds the truth."""
    scores = 2 * draw(4000)
    uniform = torch.rand(4000, generator=torch.Generator().manual_seed(1))
    agreed = uniform < (0.7 * scores - 0.5).sigmoid()
    network = ConfidenceNetwork(2, width=1)
    calibrate(network, scores, agreed)
    error = network.calibrated(scores).double() - platts_targets(agreed)
    assert float(error.mean()) == pytest.approx(0, abs=1e-4)
    assert float((error * scores).mean()) == pytest.approx(0, abs=1e-4)
    assert float(network.scale) == pytest.approx(0.7, abs=0.1)
    assert float(network.offset) == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("agreed", [torch.ones(20), torch.zeros(20), torch.arange(20) > 9])
def test_calibration_of_what_can_be_separated_stays_finite(agreed: Tensor) -> None:
    network = ConfidenceNetwork(2, width=1)
    with torch.inference_mode():  # as in a validation
        calibrate(network, torch.arange(20.0), agreed.bool())
        confidence = network.calibrated(torch.arange(20.0))
    assert network.scale.isfinite()
    assert network.offset.isfinite()
    expected = platts_targets(agreed.bool()).mean()
    assert float(confidence.mean()) == pytest.approx(float(expected), abs=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_confidence_in_each_precision(
    precision: Any, make_module: MakeModule, tmp_path: Path
) -> None:
    """With a blur, which autocast would turn to another type than the images have."""
    module = make_module(confidence_width=2, objective=objective(perturbation=Blur(3.0)))
    trainer = make_trainer(tmp_path, max_epochs=1, precision=precision)
    trainer.fit(module, datamodule=BlobsData())
    assert 0 < float(trainer.callback_metrics["val/confidence"]) < 1


ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: UNet((4, 8)),
    "paper": lambda: PaperEncoder((4, 4)),
    "conditional": lambda: ConditionalUNet((4, 8)),
    "universal": lambda: UniversalUNet((4, 8)),
    "universal, two networks": lambda: UniversalUNet((4, 8), members=2),
}


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_and_family(encoder: str, family: Family) -> None:
    """Estimated where there is no classifier to ask, measured where there is one."""
    torch.manual_seed(0)
    explainer = Explainer(ENCODERS[encoder](), prior=KroneckerNormal, posterior=family)
    images, classifier = blobs(3), blob_classifier()
    if not explainer.is_conditional:
        explainer.confidence = ConfidenceNetwork(4, width=2)
        explainer.confidence.depth.farthest.fill_(1.0)
    posterior = explainer.eval().attach_classifier(classifier)(images)
    assert posterior.rsample((2,)).shape == (2, 3, 16, 16)
    expected = sufficiency(classifier, images, posterior)
    if explainer.confidence is None:
        torch.testing.assert_close(posterior.confidence, expected)
    else:
        assert not torch.allclose(posterior.confidence, expected)
        assert posterior.out_of_depth.shape == (3,)


@pytest.mark.parametrize("settings", [{"classes": 0}, {"classes": 2, "width": 0}])
def test_numbers_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"confidence_width >= 1"):
        ConfidenceNetwork(**settings)


def test_distillation_trains_the_network_and_nothing_else() -> None:
    explainer, classifier, images = trained_explainer(), blob_classifier(), blobs(6)
    explainer.train()
    views = masked_views(objective(), images, q := explainer(images), classifier)
    assert explainer.confidence is not None
    loss = distillation_loss(explainer.confidence, q, views, classifier)
    assert loss.shape == (18,)
    loss.mean().backward()  # type: ignore[no-untyped-call]
    trained = {name for name, p in explainer.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in explainer.named_parameters() if n.startswith("confidence.")}


def test_the_agreement_score_is_about_the_kept_view() -> None:
    explainer, classifier, images = trained_explainer(), blob_classifier(), blobs(6)
    posterior = explainer(images)
    views = masked_views(objective(), images, posterior, classifier)
    assert explainer.confidence is not None
    scores, agreed = agreement_score(explainer.confidence, posterior, views, classifier)
    view = kept_view(images, posterior)
    expected = classifier(images).argmax(1) == classifier(view).argmax(1)
    assert torch.equal(agreed, expected)
    torch.testing.assert_close(scores, explainer.confidence.score(images, view))
    mask = posterior.topk_mask(CONFIDENCE_FRACTION)
    changed = (view - images).abs().sum(1) > 1e-6
    assert not (changed & mask).any()


def test_training_adds_trains_and_calibrates_it(make_module: MakeModule, tmp_path: Any) -> None:
    module = make_module(confidence_width=2)
    module.explainer.recorded = configuration(confidence=None)
    assert module.explainer.confidence is None
    trainer = make_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    data = BlobsData()
    data.val_set = Blobs(24, seed=2)
    trainer.fit(module, datamodule=data)
    network = module.explainer.confidence
    assert network is not None
    assert network.depth.is_known
    assert network.imitate[-1].out_features == 4
    assert float(network.scale) != 1
    assert "val/confidence_auroc" in trainer.callback_metrics
    assert 0 < float(trainer.callback_metrics["val/confidence"]) < 1
    assert "train/confidence" not in trainer.callback_metrics  # it would disturb batch norms
    again = Explainer.from_config(module.explainer.config)
    assert isinstance(again.confidence, ConfidenceNetwork)
    again.confidence.load_state_dict(network.state_dict())
