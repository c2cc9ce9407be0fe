"""Saving, loading, confidence, refinement: what users have of a trained explainer."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import kl_divergence

from saliency_vae.classifiers.digit_networks import DigitNet
from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.distributions import DiagonalNormal, Family, KroneckerNormal, make_posterior
from saliency_vae.distributions.learned_prior import ExponentialPrior
from saliency_vae.models import Explainer, load_explainer, save_explainer
from saliency_vae.models.conditional_encoder import ConditionalUNet
from saliency_vae.models.config import BEFORE_NAMES, FORMAT, ExplainerConfig
from saliency_vae.models.depth import Depth
from saliency_vae.models.distillation import calibrate
from saliency_vae.models.refinement import RefinementSettings, explain_without_training, refine
from saliency_vae.models.serialization import read_config
from saliency_vae.models.signals import ClassifierSignals
from saliency_vae.perturbations import Blur, Mean, Mixture, Noise
from saliency_vae.training.depth import fit_depth
from tests.conftest import SIZE, blob_classifier, blobs, objective
from tests.helpers.masked_views import masked_views, sufficiency
from tests.helpers.tiny_universal import build

UNET = {"_target_": "saliency_vae.models.encoders.UNet", "channels": [4, 8]}
PAPER = {"_target_": "saliency_vae.models.encoders.PaperEncoder", "hidden_channels": [4, 4]}


def configuration(**parts: Any) -> ExplainerConfig:
    """Configuration of a small explainer; parts replace its own."""
    defaults: dict[str, Any] = {
        "name": "test",
        "encoder": UNET,
        "prior": {
            "_target_": "saliency_vae.distributions.KroneckerNormal",
            "_partial_": True,
            "correlation": 0.9,
        },
        "topk": {
            "_target_": "saliency_vae.topk.SoftTopK",
            "fraction": [0.1, 0.3],
            "temperature": 0.1,
        },
        "perturbation": {"_target_": "saliency_vae.perturbations.Mean"},
        "beta": 0.01,
        "confidence": {
            "_target_": "saliency_vae.models.confidence.ConfidenceNetwork",
            "classes": 4,
            "width": 4,
        },
        "image_size": (20, 33),
    }
    return ExplainerConfig(**defaults | parts)


def plain(**values: Any) -> dict[str, Any]:
    """What the file of a small explainer holds; values replace its own."""
    return {**configuration().to_plain(), **values}


def trained_explainer(**parts: Any) -> Explainer:
    """Make an explainer whose batch norms have seen data and whose answers vary."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        explainer = Explainer.from_config(configuration(**parts))
        for module in explainer.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
        nn.init.normal_(explainer.get_parameter("encoder.head.weight"), std=0.2)
        for _ in range(5):
            explainer.train()(torch.rand(4, 3, 24, 24))
            if explainer.confidence is not None:
                explainer.confidence.imitate(torch.rand(4, 3, 24, 24))
        if explainer.confidence is not None:
            nn.init.normal_(explainer.get_parameter("confidence.imitate.9.weight"), std=0.3)
    return explainer.eval()


CONDITIONAL = {
    "_target_": "saliency_vae.models.conditional_encoder.ConditionalUNet",
    "channels": [4, 8],
}


def test_a_conditional_encoder_finds_the_features_once_and_is_saved_with_them(
    tmp_path: Path,
) -> None:
    node = dict(CONDITIONAL)
    explainer = Explainer.from_config(configuration(encoder=node))
    classifier = FrozenClassifier(DigitNet(), name="digits")
    images = random_images(2, 3, 32, 32)
    explainer.find_features(classifier, images)
    found = explainer.encoder
    assert isinstance(found, ConditionalUNet)
    assert found.scales == {"1": 1, "4": 1, "7": 1}
    assert node == CONDITIONAL  # the caller's own
    explainer.find_features(classifier, images)
    assert explainer.encoder is found

    nn.init.normal_(found.unet.head.weight)
    explainer.eval().attach_classifier(classifier)
    save_explainer(explainer, tmp_path)
    with torch.no_grad():
        again = load_explainer(tmp_path).attach_classifier(classifier)(images)
        torch.testing.assert_close(again.mean, explainer(images).mean, rtol=1e-4, atol=1e-4)
        assert again.confidence.shape == (2,)


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_the_prior_expects_what_the_gradients_say(family: Family) -> None:
    node = {**CONDITIONAL, "prior_mean_scale": 0.5}
    explainer = Explainer.from_config(configuration(encoder=node, posterior=family)).eval()
    explainer.attach_classifier(blob_classifier())
    images = blobs(4)
    signals = explainer.signals(images)
    assert isinstance(signals, ClassifierSignals)
    prior = explainer.prior(images, signals)
    torch.testing.assert_close(prior.mean, 0.5 * signals.gradients.mean(1))
    assert prior.mean.std() > 0.1
    # Its head is zero at first: the posterior departs in nothing from the mean.
    posterior = explainer(images)
    assert torch.equal(posterior.mean, prior.mean)
    again = make_posterior(family, posterior.mean, posterior.log_variance, prior)
    paper = explainer.prior(images)  # without signals
    nothing = make_posterior(
        family, torch.zeros_like(posterior.mean), posterior.log_variance, paper
    )
    torch.testing.assert_close(kl_divergence(again, prior), kl_divergence(nothing, paper))

    start = explain_without_training(
        images, blob_classifier(), steps=0, prior=prior, family=family, objective=objective()
    )
    torch.testing.assert_close(start.posterior.mean, prior.mean)


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_refinement_keeps_to_the_prior_of_each_image(family: Family) -> None:
    node = {**CONDITIONAL, "prior_mean_scale": 0.5}
    explainer = Explainer.from_config(configuration(encoder=node, posterior=family)).eval()
    classifier = blob_classifier()
    explainer.attach_classifier(classifier)
    images = blobs(4)
    with torch.inference_mode():
        refined = explainer.refine(images, classifier, steps=30)
    assert (refined.after < refined.before).all()
    prior = explainer.prior(images, explainer.signals(images))
    start = explainer.encode(images, prior)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        goal = explainer.objective()
        views = [masked_views(goal, images, start, classifier, noise) for _ in range(8)]
        draws = [goal(view, start, prior, classifier).loss for view in views]
    torch.testing.assert_close(refined.before, torch.stack(draws).mean(0))


def test_another_classifier_is_attached_only_if_forced() -> None:
    explainer = Explainer.from_config(configuration(encoder=CONDITIONAL))
    explainer.record(classifier=blob_classifier().identity())
    explainer.attach_classifier(blob_classifier())
    with pytest.raises(ValueError, match="another sha256"):
        explainer.attach_classifier(blob_classifier(seed=1))
    other = blob_classifier(seed=1)
    assert explainer.attach_classifier(other, force=True).classifier is other
    with pytest.raises(ValueError, match=r"FrozenClassifier\. Found Linear"):
        explainer.attach_classifier(nn.Linear(1, 1))  # type: ignore[arg-type]  # that is the question


@pytest.mark.parametrize("record", ["resnet50", {"name": "x"}, 3])
def test_a_record_that_says_nothing_is_one_line(record: Any, tmp_path: Path) -> None:
    save_explainer(trained_explainer(), tmp_path)
    plain = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**plain, "classifier": record}))
    with pytest.raises(
        ValueError, match=r"config\.json to describe an explainer. Found classifier"
    ):
        load_explainer(tmp_path)


def test_without_a_record_there_is_no_classifier() -> None:
    with pytest.raises(ValueError, match="records its classifier's identity"):
        _ = Explainer.from_config(configuration(encoder=CONDITIONAL)).classifier


def conditional_explainer() -> Explainer:
    """An explainer whose answers rest on gradients, feature maps and image alike."""
    features = {"4": {"channels": 48, "stride": 4}}
    node = {**CONDITIONAL, "features": features, "prior_mean_scale": 0.3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        explainer = Explainer.from_config(configuration(encoder=node)).eval()
        nn.init.normal_(explainer.get_parameter("encoder.unet.head.weight"), std=0.2)
        return explainer.attach_classifier(FrozenClassifier(DigitNet(), name="digits"))


@pytest.mark.parametrize("make", [conditional_explainer, trained_explainer])
def test_an_explainer_goes_through_pickle(make: Callable[[], Explainer]) -> None:
    explainer = make()
    images = random_images(2, 3, 32, 32)
    expected = explainer(images)
    again = pickle.loads(pickle.dumps(explainer))(images)
    assert torch.equal(again.mean, expected.mean)
    assert torch.equal(again.confidence, expected.confidence)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-4), (torch.bfloat16, 0.5)])
@pytest.mark.parametrize("make", [conditional_explainer, trained_explainer])
def test_an_explainer_of_another_precision_answers_alike(
    make: Callable[[], Explainer], dtype: torch.dtype, within: float
) -> None:
    explainer = make()
    images = random_images(2, 3, 32, 32).bfloat16().float()
    with torch.no_grad():
        expected = explainer(images)
        confidence = expected.confidence
        found = explainer.to(dtype)(images.to(dtype))
        assert found.mean.dtype == torch.float32
        assert (found.mean - expected.mean).abs().mean() < within * expected.mean.std()
        assert (found.confidence - confidence).abs().max() < 0.05


def test_a_conditional_explainer_compiles() -> None:
    explainer = Explainer.from_config(configuration(encoder=CONDITIONAL)).eval()
    explainer.attach_classifier(blob_classifier())
    compiled = torch.compile(explainer, backend="eager")
    images = blobs(2)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images).mean, explainer(images).mean)


def test_a_refined_explanation_keeps_its_confidence() -> None:
    explainer = trained_explainer()
    images = blobs(2)
    refined = explainer.refine(images, blob_classifier(), steps=3).posterior
    torch.testing.assert_close(refined.confidence, explainer.estimate_confidence(images, refined))


@pytest.mark.parametrize("make", [conditional_explainer, trained_explainer])
def test_images_of_another_precision_are_refined(make: Callable[[], Explainer]) -> None:
    explainer, images = make(), blobs(2)
    classifier = explainer.classifier if explainer.is_conditional else blob_classifier()
    expected = explainer.refine(images, classifier, steps=1).posterior.mean
    found = explainer.refine(images.double(), classifier, steps=1).posterior.mean
    assert torch.equal(found, expected)


def test_what_is_refined_is_what_the_given_classifier_says() -> None:
    images, first, second = blobs(2), blob_classifier(0), blob_classifier(1)
    explainer, other = build(first), build(second)
    expected = other.refine(images, second, objective=objective(), steps=1).posterior
    found = explainer.refine(images, second, objective=objective(), steps=1).posterior
    assert torch.equal(found.mean, expected.mean)
    assert explainer.classifier is second


def test_the_confidence_is_measured_on_the_classifier_that_was_explained() -> None:
    images, first, second = blobs(2), blob_classifier(), blob_classifier(1)
    with torch.no_grad():
        second.network.get_parameter("2.weight").neg_()  # the opposite decision
    explainer = build(first)
    expected, posterior = explainer(images).confidence, explainer(images)
    explainer.attach_classifier(second)
    assert torch.equal(posterior.confidence, expected)
    assert not torch.equal(explainer(images).confidence, expected)


def test_an_encoder_of_the_image_alone_is_left_as_it_is() -> None:
    explainer = Explainer.from_config(configuration())
    encoder = explainer.encoder
    explainer.find_features(
        FrozenClassifier(DigitNet(), name="digits"), random_images(2, 3, 32, 32)
    )
    assert explainer.encoder is encoder


def random_images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("encoder", [UNET, PAPER])
@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (3, 3, 21, 34)])
def test_a_loaded_explainer_answers_as_the_trained_one(
    tmp_path: Path, encoder: dict[str, Any], shape: tuple[int, ...]
) -> None:
    trained = trained_explainer(encoder=encoder)
    save_explainer(trained, tmp_path)
    loaded = load_explainer(tmp_path)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in loaded.modules())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    images = random_images(*shape)
    expected, found = trained(images), loaded(images)
    assert found.batch_shape + found.event_shape == (shape[0], *shape[2:])
    torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.stddev, expected.stddev, rtol=0, atol=1e-5)
    assert found.mean.std() > 0.01


def test_what_is_saved_is_what_was_configured(tmp_path: Path) -> None:
    explainer = trained_explainer(beta=0.25)
    explainer.record(metrics={"val/loss": 0.5})
    save_explainer(explainer, tmp_path)
    assert load_explainer(tmp_path).config == explainer.config
    save_explainer(load_explainer(tmp_path), tmp_path / "again")
    again = load_explainer(tmp_path / "again")
    images = random_images(2, 3, 20, 20)
    torch.testing.assert_close(again(images).mean, explainer(images).mean, rtol=0, atol=1e-5)
    assert again.objective().beta == 0.25


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_its_prior_can_be_trained_with_after_inference(tmp_path: Path, family: Family) -> None:
    save_explainer(trained_explainer(posterior=family), tmp_path)
    explainer = load_explainer(tmp_path)
    images = random_images(2, 3, 20, 17)
    with torch.inference_mode():
        posterior = explainer(images)
        prior = explainer.prior(images)
        kl_divergence(posterior, prior)
        posterior.rsample((2,)), posterior.inclusion_probability(0.1), posterior.confidence
    mean = posterior.mean.clone().requires_grad_()
    log_variance = posterior.log_variance.clone().requires_grad_()
    assert explainer.prior(images) is prior
    q = make_posterior(family, mean, log_variance, prior)
    loss = (kl_divergence(q, prior) + q.rsample().square().sum((-2, -1))).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    for leaf in (mean, log_variance):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().min() > 0


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_sampling_with_a_generator_repeats_and_touches_nothing_else(family: Family) -> None:
    posterior = trained_explainer(posterior=family)(random_images(2, 3, 16, 18))
    state = torch.random.get_rng_state()
    first, second, other = (
        posterior.rsample((3,), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert first.shape == (3, 2, 16, 18)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_explanation_is_over_another_image_of_its_batch() -> None:
    baselines = [{"_target_": f"saliency_vae.perturbations.{name}"} for name in ("Mean", "Other")]
    trained = trained_explainer(perturbation={"_target_": MIXTURE, "baselines": baselines})
    assert isinstance(trained.baseline(), Blur)
    alone = trained_explainer(perturbation={"_target_": MIXTURE, "baselines": baselines[:1]})
    assert isinstance(alone.baseline(), Mixture)


def test_without_a_record_of_its_baseline_images_it_is_refined_over_a_blur() -> None:
    explainer = trained_explainer(perturbation=None)
    images, classifier = blobs(2), blob_classifier()
    refined = explainer.refine(images, classifier, steps=2).posterior.mean
    over_a_blur = replace(trained_explainer().objective(), perturbation=Blur())
    expected = explainer.refine(images, classifier, objective=over_a_blur, steps=2).posterior.mean
    assert torch.equal(refined, expected)
    with pytest.raises(ValueError, match="Found none of perturbation"):
        explainer.objective()


def written(directory: Path, config: Any) -> Path:
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def with_part(directory: Path, version: int, part: dict[str, Any]) -> Path:
    """Write a configuration with another part, by import path or, as of today, by name."""
    text = json.dumps(part)
    if version == FORMAT:
        text = text.replace("_target_", "type").replace(str(UNET["_target_"]), "unet")
        text = text.replace(MIXTURE, "mixture")
    return written(directory, {**plain(), **json.loads(text), "format": version})


MIXTURE = "saliency_vae.perturbations.Mixture"
EVIL = {"_target_": "pathlib.Path", "_args_": ["x"]}


@pytest.mark.parametrize(
    "part",
    [
        {"encoder": {"_target_": "saliency_vae.models.encoders.torch.load", "f": "weights.pt"}},
        {"encoder": {"_target_": "saliency_vae.models.encoders.copy.deepcopy", "x": 1}},
        {"encoder": {**UNET, "channels": EVIL}},
        {"encoder": {"_target_": ["saliency_vae.models.encoders.UNet"]}},
        {"encoder": {"_target_": "saliency_vae.distributions.KroneckerNormal"}},
        {"prior": EVIL},
        {"topk": EVIL},
    ],
)
@pytest.mark.parametrize("version", [BEFORE_NAMES, FORMAT])
def test_a_file_does_not_choose_what_code_is_run(
    tmp_path: Path, version: int, part: dict[str, Any]
) -> None:
    directory = with_part(tmp_path, version, part)
    with pytest.raises(ValueError, match=r"config\.json: .* (to be one of|without a key of Hydra)"):
        read_config(directory)


@pytest.mark.parametrize(
    "perturbation",
    [
        EVIL,
        {"_target_": MIXTURE, "baselines": [EVIL]},
        {"_target_": MIXTURE, "_args_": [[{"_target_": MIXTURE, "a": EVIL}]]},
    ],
)
@pytest.mark.parametrize("version", [BEFORE_NAMES, FORMAT])
def test_a_perturbation_from_elsewhere_is_left_out(
    tmp_path: Path, version: int, perturbation: dict[str, Any]
) -> None:
    directory = with_part(tmp_path, version, {"perturbation": perturbation})
    assert read_config(directory).perturbation is None


def test_a_file_does_not_run_code_through_an_interpolation(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    text = f"${{oc.create:{{_target_: os.mkdir, path: {touched}}}}}"
    save_explainer(trained_explainer(), tmp_path)
    directory = written(tmp_path, plain(encoder={"type": "unet", "channels": text}))
    with pytest.raises(ValueError, match="without interpolation"):
        load_explainer(directory)
    assert not touched.exists()


@pytest.mark.parametrize("found", [1, 2, "3", None])
def test_another_format_is_refused(tmp_path: Path, found: Any) -> None:
    save_explainer(trained_explainer(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    with pytest.raises(ValueError, match="Expected an explainer of format 4"):
        load_explainer(written(tmp_path, {**config, "format": found}))


def error_of_loading(directory: Path) -> str:
    with pytest.raises(ValueError, match="Expected") as info:
        load_explainer(directory)
    message = str(info.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "other"])
def test_damaged_weights_are_refused(tmp_path: Path, damage: str) -> None:
    save_explainer(trained_explainer(), tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    elif damage == "other":
        save_explainer(trained_explainer(encoder=PAPER), tmp_path / "other")
        weights.write_bytes((tmp_path / "other/model.safetensors").read_bytes())
    else:
        weights.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    message = error_of_loading(tmp_path)
    assert "model.safetensors to hold the networks" in message
    assert len(message) < 400


@pytest.mark.parametrize(
    "config",
    [
        [1],
        {},
        {"format": FORMAT},
        plain(posterior="flat"),
        plain(unknown=1),
        plain(encoder=None),
        plain(encoder={"channels": [4]}),
        plain(encoder={"type": "unet", "chanels": [4]}),
        plain(encoder={"type": "unet", "_partial_": True}),
        plain(encoder={"type": "unet", "channels": "???"}),
        plain(prior={"type": "kronecker", "height": 4, "width": 4}),
        plain(format=BEFORE_NAMES, encoder={**UNET, "chanels": [4]}),
    ],
)
def test_a_damaged_configuration_is_one_line(tmp_path: Path, config: Any) -> None:
    save_explainer(trained_explainer(), tmp_path)
    assert str(tmp_path) in error_of_loading(written(tmp_path, config))


def test_text_that_is_no_json_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert str(tmp_path) in error_of_loading(tmp_path)
    assert "nowhere" in error_of_loading(tmp_path / "nowhere")


def posteriors(size: int = 3, side: int = 32) -> tuple[Tensor, Tensor]:
    """Means and log-variances from nearly certain to nearly pure noise."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(size, side, side, generator=generator)
    spread = torch.tensor([0.3, 1.0, 3.0])[:size, None, None]
    stddev = spread * (0.5 + torch.rand(size, side, side, generator=generator))
    return mean, 2 * stddev.log()


def test_map_agreement_is_the_expected_overlap_of_sampled_maps() -> None:
    mean, log_variance = posteriors()
    k = round(0.05 * mean[0].numel())
    top = [set(row.argsort(descending=True)[:k].tolist()) for row in mean.flatten(1)]
    samples = DiagonalNormal(mean, log_variance).rsample(
        (400,), generator=torch.Generator().manual_seed(1)
    )
    overlap = torch.tensor(
        [
            [
                len(top[i] & set(row.argsort(descending=True)[:k].tolist())) / k
                for i, row in enumerate(sample.flatten(1))
            ]
            for sample in samples
        ]
    )
    agreement = DiagonalNormal(mean, log_variance).map_agreement(0.05)
    torch.testing.assert_close(agreement, overlap.mean(0), rtol=0, atol=0.015)
    assert agreement[0] > agreement[1] > agreement[2] > 0.05


def test_map_agreement_is_between_chance_and_one() -> None:
    mean, _ = posteriors()
    certain = DiagonalNormal(mean, torch.full_like(mean, -30.0)).map_agreement(0.05)
    assert (certain <= 1).all()
    torch.testing.assert_close(certain, torch.ones(3))
    chance = DiagonalNormal(mean, torch.full_like(mean, 15.0)).map_agreement(0.05)
    torch.testing.assert_close(chance, torch.full((3,), 0.05), rtol=0.03, atol=0)


def test_confidence_survives_saving(tmp_path: Path) -> None:
    explainer = trained_explainer()
    assert explainer.confidence is not None
    calibrate(explainer.confidence, torch.tensor([-1.0, 0.0, 1.0, 2.0]), torch.arange(4) > 1)
    save_explainer(explainer, tmp_path)
    images = random_images(3, 3, 32, 32)
    expected = explainer(images).confidence
    torch.testing.assert_close(load_explainer(tmp_path)(images).confidence, expected)
    assert expected.shape == (3,)
    assert ((expected > 0) & (expected < 1)).all()


def test_what_is_out_of_depth_survives_saving_and_refinement(tmp_path: Path) -> None:
    explainer = trained_explainer()
    assert explainer.confidence is not None
    fit_depth(explainer.confidence.depth, explainer.confidence.features(blobs(40)).detach())
    images = torch.cat([blobs(4), torch.rand(3, 3, 16, 16)])
    save_explainer(explainer, tmp_path)
    loaded = load_explainer(tmp_path)
    refined = loaded.refine(images, blob_classifier(), steps=1).posterior
    for posterior in (explainer(images), loaded(images), refined):
        assert posterior.out_of_depth.tolist() == [False] * 4 + [True] * 3
    rounded = loaded.bfloat16()(images.bfloat16())
    assert rounded.out_of_depth.tolist() == [False] * 4 + [True] * 3


def test_what_is_out_of_depth_is_still_known_by_explainers_of_earlier_versions(
    tmp_path: Path,
) -> None:
    """They know the means of the features alone, without the deviations."""
    explainer = trained_explainer()
    assert explainer.confidence is not None
    means, _ = explainer.confidence.features(blobs(40)).detach().chunk(2, dim=1)
    explainer.confidence.depth = Depth(means.shape[1])
    fit_depth(explainer.confidence.depth, means)
    images = torch.cat([blobs(4), torch.rand(3, 3, 16, 16)])
    save_explainer(explainer, tmp_path)
    loaded = load_explainer(tmp_path)
    assert loaded(images).out_of_depth.tolist() == [False] * 4 + [True] * 3
    assert loaded.confidence is not None
    fit_depth(loaded.confidence.depth, loaded.confidence.features(blobs(60)))  # trained further
    assert loaded(images).out_of_depth.tolist() == [False] * 4 + [True] * 3


def test_confidence_is_of_the_given_posterior() -> None:
    explainer, images = trained_explainer(), blobs(4)
    posterior = explainer(images)
    inverted = DiagonalNormal(-posterior.mean, posterior.log_variance)
    assert torch.equal(explainer.estimate_confidence(images, posterior), posterior.confidence)
    assert not torch.allclose(explainer.estimate_confidence(images, inverted), posterior.confidence)


def test_without_a_confidence_network_there_is_no_confidence() -> None:
    posterior = trained_explainer(confidence=None)(blobs(2))
    with pytest.raises(ValueError, match="an explainer with a confidence network"):
        _ = posterior.confidence
    with pytest.raises(ValueError, match="an explainer with a confidence network"):
        _ = posterior.out_of_depth


def test_with_its_classifier_the_confidence_is_measured_in_one_pass() -> None:
    """That of the decision, which the encoder has seen already."""
    explainer = conditional_explainer()
    explainer.confidence = None
    images = random_images(3, 3, 32, 32)
    posterior = explainer(images)
    passes: list[int] = []
    hook = explainer.classifier.register_forward_pre_hook(lambda *_: passes.append(1))
    confidence = posterior.confidence
    hook.remove()
    assert len(passes) == 1
    torch.testing.assert_close(confidence, sufficiency(explainer.classifier, images, posterior))
    with pytest.raises(ValueError, match="a confidence network"):
        _ = posterior.out_of_depth


@pytest.mark.parametrize("correlation", [0.8, [0.5, 0.8]])
def test_a_learned_correlation_is_saved_as_a_number(tmp_path: Path, correlation: Any) -> None:
    node = {
        "_target_": "saliency_vae.distributions.learned_prior.ExponentialPrior",
        "correlation": correlation,
        "learn_correlation": True,
    }
    explainer = trained_explainer(prior=node, posterior="correlated")
    assert isinstance(explainer.make_prior, ExponentialPrior)
    assert explainer.make_prior.unbounded is not None
    with torch.no_grad():
        explainer.make_prior.unbounded.add_(0.1)
    save_explainer(explainer, tmp_path)
    loaded = load_explainer(tmp_path)
    images = random_images(2, 3, 20, 21)
    assert loaded.learned_correlation is None
    assert loaded.prior(images) is loaded.prior(images)
    white = random_images(2, 20, 21)
    expected = explainer.prior(images).log_prob(white)
    torch.testing.assert_close(loaded.prior(images).log_prob(white), expected)


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_refinement_lowers_the_objective_of_each_image(family: Family) -> None:
    explainer = trained_explainer(posterior=family)
    classifier = blob_classifier()
    images = blobs(4)
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        refined = explainer.refine(images, classifier, steps=30)
        again = explainer.refine(images, classifier, steps=30)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (refined.after < refined.before).all()
    assert torch.equal(refined.posterior.mean, again.posterior.mean)
    assert type(refined.posterior) is type(explainer(images))
    assert not refined.posterior.mean.requires_grad
    # Both are what the objective says with the same eight draws of noise.
    prior, goal = explainer.prior(images), explainer.objective()
    for posterior, measured in (
        (explainer(images), refined.before),
        (refined.posterior, refined.after),
    ):
        noise = torch.Generator().manual_seed(0)
        with torch.no_grad():
            views = [masked_views(goal, images, posterior, classifier, noise) for _ in range(8)]
            draws = [goal(view, posterior, prior, classifier).loss for view in views]
        torch.testing.assert_close(measured, torch.stack(draws).mean(0))


@pytest.mark.parametrize("perturbation", [Mean(), Noise(), Mixture([Blur(), Noise()])])
@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_an_image_is_refined_alike_alone_and_among_others(
    family: Family, perturbation: nn.Module
) -> None:
    images, classifier = blobs(3), blob_classifier()
    explain = partial(
        explain_without_training,
        classifier=classifier,
        family=family,
        objective=objective(perturbation=perturbation),
        steps=15,
    )
    together, alone = explain(images), explain(images[1:2])
    torch.testing.assert_close(together.before[1:2], alone.before)
    moved = together.posterior.mean.std()
    difference = (together.posterior.mean[1:2] - alone.posterior.mean).abs().max()
    assert difference < 0.01 * moved


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (255 * torch.rand(2, 3, 20, 20), r"from .* to 25\d"),
        ((torch.rand(2, 3, 20, 20) - 0.45) / 0.225, "from -"),
        (torch.full((2, 3, 20, 20), torch.nan), "nan"),
        (torch.zeros(2, 3, 20, 20, dtype=torch.uint8), "uint8"),
        (torch.rand(3, 20, 20), r"\(3, 20, 20\)"),
        (torch.rand(2, 20, 20, 3), r"\(2, 20, 20, 3\)"),
        (torch.rand(2, 3, 20, 20).to("meta"), "a tensor on the device meta"),
        (Image.new("RGB", (20, 20)), r"Image, which explainer\.explain"),
    ],
    ids=["to 255", "normalised", "NaN", "bytes", "no batch", "channels last", "meta", "Pillow"],
)
@pytest.mark.parametrize("make", [conditional_explainer, trained_explainer])
def test_what_is_no_image_is_refused(
    make: Callable[[], Explainer], images: Tensor, found: str
) -> None:
    with pytest.raises(ValueError, match=rf"Expected images .* Found .*{found}"):
        make()(images)
    with pytest.raises(ValueError, match=rf"Expected images .* Found .*{found}"):
        explain_without_training(images, blob_classifier())


def test_a_plain_network_is_no_classifier() -> None:
    with pytest.raises(ValueError, match=r"FrozenClassifier\. Found Linear"):
        explain_without_training(blobs(1), nn.Linear(1, 1))  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match=r"FrozenClassifier\. Found Linear"):
        load_explainer("universal", nn.Linear(1, 1))  # type: ignore[arg-type]  # likewise
    with pytest.raises(ValueError, match=r"FrozenClassifier\. Found Linear"):
        load_explainer("universal").refine(blobs(1), nn.Linear(1, 1))  # type: ignore[arg-type]


def test_no_steps_change_nothing_and_fewer_are_refused() -> None:
    mean = torch.randn(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    start = DiagonalNormal(mean, torch.zeros_like(mean))

    def refined(steps: int) -> Any:
        return refine(
            start,
            blobs(2),
            blob_classifier(),
            objective=objective(),
            prior=KroneckerNormal(SIZE, SIZE),
            settings=RefinementSettings(steps=steps),
        )

    result = refined(0)
    torch.testing.assert_close(result.posterior.mean, mean)
    torch.testing.assert_close(result.after, result.before)
    with pytest.raises(ValueError, match=r"Expected steps >= 0, a whole number\. Found -1\."):
        refined(-1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 1.5}, "steps >= 0, a whole number. Found 1.5."),
        ({"steps": True}, "steps >= 0, a whole number. Found True."),
        ({"samples": 0}, "samples >= 1, a whole number. Found 0."),
        ({"samples": 2.0}, "samples >= 1, a whole number. Found 2.0."),
        ({"evaluations": 0}, "evaluations >= 1, a whole number. Found 0."),
        ({"seed": 0.5}, "seed, a whole number. Found 0.5."),
        ({"lr": 0}, "lr > 0, a finite number. Found 0."),
        ({"lr": float("nan")}, "lr > 0, a finite number. Found nan."),
        ({"lr": "0.1"}, "lr > 0, a finite number. Found '0.1'."),
    ],
)
def test_settings_of_a_refinement_are_checked(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape('Expected ' + expected)}$"):
        RefinementSettings(**{"steps": 1} | settings)


def test_settings_of_a_refinement_may_be_of_numpy() -> None:
    settings: dict[str, Any] = {"steps": np.int64(1), "lr": np.float32(0.1), "seed": np.int32(3)}
    refined = explain_without_training(blobs(1), blob_classifier(), **settings)
    assert refined.posterior.mean.isfinite().all()


@pytest.mark.parametrize("family", ["mean_field", "correlated"])
def test_a_universal_explanation_is_refined_in_inference_mode(family: Family) -> None:
    images, classifier = blobs(2), blob_classifier()
    explainer = load_explainer("universal", classifier).eval()
    explainer.posterior = family
    targets = (None, torch.tensor([0, 1]), torch.eye(4)[:2])
    refined = partial(explainer.refine, images, classifier, steps=1)
    with torch.inference_mode():
        found = [refined(target=target).posterior.mean for target in targets]
        own = refined(target=torch.eye(4)[:2]).posterior.mean  # a tensor of this mode
        explained = explainer.explain(images[0], refine_steps=1).mean
        explain_without_training(images, classifier, family=family, steps=1)
    expected = [refined(target=target).posterior.mean for target in targets]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(own, expected[2])
    torch.testing.assert_close(explained, explainer.explain(images[0], refine_steps=1).mean)


def squares() -> tuple[Tensor, Tensor]:
    """Dark images with one bright square in each quarter in turn; where it is, (4, H, W) bool."""
    region = torch.zeros(4, SIZE, SIZE, dtype=torch.bool)
    for index, (top, left) in enumerate(((1, 2), (2, 10), (10, 1), (9, 9))):
        region[index, top : top + 5, left : left + 5] = True
    noise = 0.2 * random_images(4, 3, SIZE, SIZE)
    return noise + 0.7 * region[:, None], region


def test_an_explanation_without_training_finds_the_region_that_decides() -> None:
    images, region = squares()
    classifier = blob_classifier()
    assert classifier(images).argmax(-1).tolist() == [0, 1, 2, 3]
    state = torch.random.get_rng_state()
    result = explain_without_training(images, classifier, objective=objective(), steps=60)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (result.after < result.before).all()
    mean = result.posterior.mean
    best = mean.flatten(1).argmax(1, keepdim=True)
    assert region.flatten(1).gather(1, best).all()
    # Keeping as many pixels as the square has keeps mostly its own; chance is 0.1.
    top = result.posterior.topk_mask(25 / SIZE**2)
    assert ((top & region).sum((1, 2)) / 25 > 0.6).all()
