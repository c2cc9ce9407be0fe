"""The network that imitates the classifier, and what its confidence is worth."""

from typing import Any

import pytest
import torch
from scipy.special import expit  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from saliency_vae.confidence import CONFIDENCE_FRACTION, ConfidenceNetwork, GlobalAverage
from saliency_vae.explainer import Explainer
from saliency_vae.imitation import imitation_loss, judged_view, trial
from saliency_vae.perturbations import Blur, perturb
from tests.conftest import BlobsData, MakeModule, blob_classifier, blobs, make_trainer, objective
from tests.test_explainer import trained_explainer


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_evidence_is_the_log_odds_that_two_answers_agree(output: Any) -> None:
    network = ConfidenceNetwork(3, output, width=2).eval()
    images, mask = blobs(4), draw(4, 16, 16) > 1
    found = network.evidence(images, mask)
    kept = perturb(images, mask, Blur(16 / 6)(images))
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
    confidence = network(images, mask)
    torch.testing.assert_close(confidence, found.sigmoid())  # before any calibration


def test_calibration_is_logistic_regression() -> None:
    """Platt's smoothing vanishes with many images."""
    evidence = 2 * draw(4000)
    agreed = (
        torch.rand(4000, generator=torch.Generator().manual_seed(1))
        < (0.7 * evidence - 0.5).sigmoid()
    )
    network = ConfidenceNetwork(2, width=1)
    network.calibrate(evidence, agreed)
    fit = LogisticRegression(C=1e9).fit(evidence[:, None], agreed)
    assert float(network.scale) == pytest.approx(float(fit.coef_[0, 0]), rel=0.01)
    assert float(network.offset) == pytest.approx(float(fit.intercept_[0]), abs=0.01)


@pytest.mark.parametrize("agreed", [torch.ones(20), torch.zeros(20), torch.arange(20) > 9])
def test_calibration_of_what_can_be_separated_stays_finite(agreed: Tensor) -> None:
    network = ConfidenceNetwork(2, width=1)
    with torch.inference_mode():  # as in a validation
        network.calibrate(torch.arange(20.0), agreed.bool())
        confidence = torch.sigmoid(network.scale * torch.arange(20.0) + network.offset)
    assert network.scale.isfinite()
    assert network.offset.isfinite()
    assert float(confidence.mean()) == pytest.approx(float(agreed.float().mean()), abs=0.06)


def test_global_average() -> None:
    features = draw(2, 3, 4, 5)
    torch.testing.assert_close(GlobalAverage()(features), features.mean((2, 3)))


@pytest.mark.parametrize("settings", [{"classes": 0}, {"classes": 2, "width": 0}])
def test_numbers_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"confidence_width >= 1"):
        ConfidenceNetwork(**settings)


def test_imitation_trains_the_network_and_nothing_else() -> None:
    explainer, classifier, images = trained_explainer(), blob_classifier(), blobs(6)
    explainer.train()
    evaluation = objective()(images, q := explainer(images), explainer.prior(images), classifier)
    assert explainer.confidence is not None
    loss = imitation_loss(explainer.confidence, images, q, evaluation, classifier)
    assert loss.shape == (18,)
    loss.mean().backward()  # type: ignore[no-untyped-call]
    trained = {name for name, p in explainer.named_parameters() if p.grad is not None}
    assert trained == {n for n, _ in explainer.named_parameters() if n.startswith("confidence.")}


def test_a_trial_asks_the_classifier_about_the_judged_view() -> None:
    explainer, classifier, images = trained_explainer(), blob_classifier(), blobs(6)
    posterior = explainer(images)
    evaluation = objective()(images, posterior, explainer.prior(images), classifier)
    assert explainer.confidence is not None
    evidence, agreed = trial(explainer.confidence, images, posterior, evaluation, classifier)
    view = judged_view(images, posterior)
    expected = classifier(images).argmax(1) == classifier(view).argmax(1)
    assert torch.equal(agreed, expected)
    mask = posterior.topk_mask(CONFIDENCE_FRACTION)
    torch.testing.assert_close(evidence, explainer.confidence.evidence(images, mask))
    changed = (view - images).abs().sum(1) > 1e-6
    assert not (changed & mask).any()


def test_training_adds_trains_and_calibrates_it(make_module: MakeModule, tmp_path: Any) -> None:
    module = make_module(confidence_width=2)
    assert module.explainer.confidence is None
    trainer = make_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    trainer.fit(module, datamodule=BlobsData())
    network = module.explainer.confidence
    assert network is not None
    assert network.imitate[-1].out_features == 4
    assert float(network.scale) != 1
    assert "val/confidence_auroc" in trainer.callback_metrics
    assert 0 < float(trainer.callback_metrics["val/confidence"]) < 1
    again = Explainer.from_config({**trained_explainer().config, **module.explainer.config})
    assert isinstance(again.confidence, ConfidenceNetwork)
    again.confidence.load_state_dict(network.state_dict())
