"""Runs that do not depend on the training of the explainer's encoder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saliency_vae.classifiers.identity import ClassifierIdentity
from saliency_vae.data.batch import Batch
from saliency_vae.evaluation.uncertainty.independent_runs import independent_runs
from saliency_vae.models import explain_without_training, load_explainer, save_explainer
from tests.conftest import blob_classifier, blobs
from tests.models.test_explainer import UNET, trained_explainer


def test_runs_differ_by_their_noise_and_repeat() -> None:
    explainer = trained_explainer(encoder=UNET)
    batch, classifier = Batch(image=blobs(2)), blob_classifier()
    runs = independent_runs(explainer, number=2, steps=5, seed=0)
    again = independent_runs(explainer, number=1, steps=5, seed=1)
    first, second, third = (run(batch, classifier) for run in (*runs, *again))
    assert not torch.allclose(first, second)
    assert torch.equal(second, third)
    assert first.shape == (2, 16, 16)


def identity(sha256: str) -> ClassifierIdentity:
    return ClassifierIdentity("a", None, "softmax", (0.0,), (1.0,), sha256)


def test_an_ensemble_runs_too(tmp_path: Path) -> None:
    explainer = trained_explainer(encoder=UNET, classifier=identity("a"))
    other = trained_explainer(encoder=UNET, classifier=identity("b"))
    for name, saved in (("same", explainer), ("other", other)):
        save_explainer(saved, tmp_path / name)
    (run,) = independent_runs(
        explainer, number=0, steps=1, seed=0, ensemble=[str(tmp_path / "same")]
    )
    maps = run({"image": blobs(2)}, blob_classifier())
    torch.testing.assert_close(maps, explainer(blobs(2)).mean, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"explainers of the same classifier. Found .*other"):
        independent_runs(explainer, number=0, steps=1, seed=0, ensemble=[str(tmp_path / "other")])


def test_a_universal_explainer_is_a_run_for_any_classifier() -> None:
    explainer = trained_explainer(encoder=UNET, classifier=identity("a"))
    (run,) = independent_runs(explainer, number=0, steps=1, seed=0, ensemble=["universal"])
    universal = load_explainer("universal", blob_classifier())
    maps = run({"image": blobs(2)}, blob_classifier())
    torch.testing.assert_close(maps, universal(blobs(2)).mean)


def test_runs_of_a_universal_explainer_answer_its_question_image_by_image() -> None:
    """Over its own baseline image, not over one that is drawn for each place in the batch."""
    explainer, classifier = load_explainer("universal", blob_classifier()), blob_classifier()
    (run,) = independent_runs(explainer, number=1, steps=5, seed=0)
    images = blobs(3)
    together = run({"image": images}, classifier)
    alone = torch.cat([run({"image": image[None]}, classifier) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    refined = explain_without_training(
        images,
        classifier,
        steps=5,
        prior=explainer.prior(images, explainer.signals(images)),
        family=explainer.posterior,
        objective=replace(explainer.objective(), perturbation=explainer.baseline()),
        target=classifier.decide(classifier(images)),
    )
    torch.testing.assert_close(together, refined.posterior.mean)
