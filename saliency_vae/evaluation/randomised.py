"""The explainer of a randomised classifier: loaded, or trained like the evaluated explainer.

A universal explainer needs no training: it explains the randomised classifier directly.
"""

import copy
import subprocess
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.classifiers.randomised import randomised_classifier
from saliency_vae.cli.validation import Node
from saliency_vae.evaluation.explainers import separate
from saliency_vae.evaluation.sanity import check_randomised
from saliency_vae.models import Explainer, load_explainer
from saliency_vae.models.serialization import find_directory

TRAIN = "train"  # value of the setting randomised


def load_randomised(config: Node, explainer: Explainer, device: torch.device) -> Explainer | None:
    """Load the explainer of a randomised classifier, if the settings name one.

    Args:
        config: Settings of the evaluation.
        explainer: Evaluated explainer.
        device: Device of the evaluation.

    Returns:
        The explainer; None if there is none, if it is still to be trained, or if the evaluated
        explainer is universal, see :func:`ask_randomised`.

    Raises:
        ValueError: If it explains the same classifier as the evaluated explainer, could not be
            trained, or is not needed.
    """
    if explainer.is_universal:
        if config["randomised"] not in (None, TRAIN):
            raise ValueError(
                "Expected no randomised=DIR with a universal explainer, which is asked about a "
                f"randomised classifier itself. Found {config['randomised']}."
            )
        return None
    if config["randomised"] == TRAIN:
        overrides_of(main_explainer(config))
    if config["randomised"] in (None, TRAIN):
        return None
    randomised = load_explainer(config["randomised"]).to(device)
    if randomised.is_conditional:
        classifier = randomised.build_classifier(config["randomised_classifier"])
        randomised.attach_classifier(classifier.to(device), force=True)
    check_randomised(explainer, randomised)
    return randomised


def ask_randomised(explainer: Explainer, classifier: FrozenClassifier) -> Explainer:
    """Let a universal explainer explain a classifier with shuffled weights.

    Args:
        explainer: Universal explainer; it is not changed.
        classifier: Classifier whose weights to shuffle; it is not changed.

    Returns:
        A shallow copy of the explainer, with the randomised classifier attached.
    """
    return copy.copy(explainer).attach_classifier(randomised_classifier(classifier), force=True)


def train_randomised(config: Node, classifier: FrozenClassifier, run: Path) -> Explainer:
    """Train an explainer of a randomised classifier, with the evaluated explainer's settings.

    A killed training resumes, and a finished one is not repeated.

    Args:
        config: Settings of the evaluation.
        classifier: Classifier of the evaluated explainer.
        run: Directory of the new run.

    Raises:
        ValueError: If the training fails.
    """
    trained = run / "explainer"
    if not trained.is_dir():
        _train(overrides_of(main_explainer(config)), run)
    randomised = load_explainer(trained).to(classifier.mean.device)
    builder = randomised.classifier_identity.builder or {}
    shuffled = randomised_classifier(classifier, builder["seed"])
    return randomised.attach_classifier(shuffled)


def main_explainer(config: Node) -> Path:
    """Directory of the first explainer to evaluate."""
    return find_directory(Path(separate(config["explainer"])[0]), {})


def overrides_of(explainer: Path) -> list[str]:
    """Overrides given to the training run of an explainer, except those for resuming.

    Args:
        explainer: Directory of the explainer, inside that of its run.

    Raises:
        ValueError: If the run has no file of overrides.
    """
    file = explainer.resolve().parent / ".hydra/overrides.yaml"
    if not file.is_file():
        raise ValueError(
            "Expected randomised=train with an explainer inside the directory of the run that "
            f"trained it. Found no {file}. Or name an explainer: randomised=DIR."
        )
    given = list(OmegaConf.load(file))
    return [setting for setting in given if not setting.startswith("ckpt_path=")]


def _train(overrides: list[str], run: Path) -> None:
    going_on = ["ckpt_path=last"] if (run / "checkpoints/last.ckpt").is_file() else []
    settings = [*overrides, "randomise_classifier=true", f"hydra.run.dir='{run}'", *going_on]
    print(f"Training an explainer of a randomised classifier in {run}.", flush=True)  # noqa: T201
    ended = subprocess.run([sys.executable, "-m", "saliency_vae.train", *settings], check=False)
    if ended.returncode:
        raise ValueError(
            "Expected the training of a randomised classifier's explainer to end. Found status "
            f"{ended.returncode}; its messages are above."
        )
