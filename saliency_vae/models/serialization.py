"""Saving and loading an explainer as ``model.safetensors`` and ``config.json``.

Loading never runs code that a file chooses.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.encoders import fold_batch_norm
from saliency_vae.models.explainer import Explainer
from saliency_vae.models.model_card import FIGURE
from saliency_vae.models.undertrained import undertrained
from saliency_vae.models.universal_encoder import UniversalUNet
from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.runtime.hub import hub_or_cache
from saliency_vae.runtime.text import described, did_you_mean

log = logging.getLogger(__name__)

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CLASSIFIER = "classifier.safetensors"  # weights of the built-in classifier, if that is explained
HASH = "weights_sha256"  # key of the configuration
UNIVERSAL = "universal"  # name of the explainer that comes with the package
_SHIPPED = Path(__file__).parents[1] / "weights"


def save_explainer(explainer: Explainer, directory: Path) -> None:
    """Save an explainer, with batch norms folded, for :func:`load_explainer` to read.

    Args:
        explainer: Explainer to save, with its ``config`` and ``figure``.
        directory: Directory to write to; made if needed.

    Raises:
        ValueError: If the explainer was assembled by hand, without a configuration.
        OSError: If it cannot be written; an earlier explainer there stays as it was.
    """
    config = explainer.config
    if explainer.learned_correlation is not None:
        one, *more = explainer.learned_correlation.tolist()
        fixed = {"correlation": [one, *more] if more else one, "learn_correlation": False}
        config = replace(config, prior={**config.prior, **fixed})
    copied = {FIGURE: explainer.figure, CLASSIFIER: explainer.kept_classifier}
    write_directory(directory, config, _networks(explainer).state_dict(), copied)


def load_explainer(
    path_or_hub_id: str | Path,
    classifier: FrozenClassifier | None = None,
    *,
    copies: int | None = None,
    **download: Any,
) -> Explainer:
    """Load an explainer, ready for use: in eval mode, with batch norms folded.

    It is on the device of the given classifier, or on the CPU if none is given.

    Args:
        path_or_hub_id: ``universal`` for the universal explainer that comes with the package; an
            ``explainer/`` directory written by training, or the directory of the whole run; or
            ``owner/name`` on the Hugging Face Hub, used if there is no such directory.
        classifier: Classifier to explain; needed by the universal explainer, and by one trained for
            a classifier of your own.
        copies: Number of copies of an image over which a universal explainer averages its signals,
            all but the first noisy; None for the saved number.
        download: Options of ``huggingface_hub.snapshot_download``, such as ``revision``; only for
            an explainer on the Hub.

    Raises:
        ValueError: If there is no intact explainer, it explains another classifier, or an argument
            does not apply to it.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 2, 8, stride=8), nn.Flatten(), nn.Linear(32, 2))
        >>> classifier = FrozenClassifier(network, name="small", categories=["cat", "dog"])
        >>> explainer = load_explainer("universal", classifier)
        >>> explainer(torch.rand(1, 3, 32, 32), target="dog").mean.shape
        torch.Size([1, 32, 32])
    """
    directory = find_directory(path_or_hub_id, download)
    explainer = _read(directory)
    if copies is not None:
        _set_copies(explainer, copies)
    explainer.figure = _file(directory / FIGURE)
    explainer.kept_classifier = _file(directory / CLASSIFIER)
    # A third faster on CPUs: pooling, upsampling and ReLU then read memory in order.
    explainer.to(memory_format=torch.channels_last)
    if (warning := undertrained(explainer.config.metrics)) is not None:
        log.warning(f"{directory}: {warning}")
    if classifier is not None:
        explainer.attach_classifier(classifier).to(classifier.mean.device)
    return explainer.eval().requires_grad_(False)


def _read(directory: Path) -> Explainer:
    """Build an explainer from its configuration, and load its weights."""
    written, config = _written(directory), read_config(directory)
    try:
        explainer = Explainer.from_config(config)
        networks = _networks(explainer)
    except Exception as error:  # its parts may raise anything for wrong arguments
        raise ValueError(
            f"Expected {directory / CONFIG} to describe an explainer. Found {described(error)}."
        ) from None
    try:
        networks.load_state_dict(_read_weights(directory, written))
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"Expected {directory / WEIGHTS} to hold the networks of its {CONFIG}. "
            f"Found {shorten(described(error), 240, placeholder=' ...')}."
        ) from None
    for name, network in networks.items():
        setattr(explainer, name, network)
    return explainer


def _set_copies(explainer: Explainer, copies: int) -> None:
    """Set the number of copies of a universal explainer, also in its configuration."""
    encoder = explainer.encoder
    if not isinstance(encoder, UniversalUNet) or not isinstance(copies, int) or copies < 1:
        raise ValueError(
            "Expected copies of a universal explainer, a whole number >= 1. "
            f"Found copies={copies!r} for an encoder of type {type(encoder).__name__}."
        )
    encoder.copies = copies
    explainer.record(encoder={**explainer.config.encoder, "copies": copies})


def _written(directory: Path) -> bytes:
    """Read the bytes of an explainer's ``config.json``, which is always written last."""
    try:
        return (directory / CONFIG).read_bytes()
    except OSError:  # read_config reports it
        return b""


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _read_weights(directory: Path, written: bytes) -> dict[str, Tensor]:
    """Read the weights of an explainer, and check them against the hash in its configuration.

    Args:
        directory: Directory of the explainer.
        written: Bytes of the configuration, read earlier.

    Raises:
        ValueError: If they do not match the hash (earlier versions saved none) or were replaced.
    """
    weights = (directory / WEIGHTS).read_bytes()
    if _written(directory) != written:
        raise ValueError("those of another one, saved while this one was read: load it again")
    expected = json.loads(written).get(HASH)
    if expected is not None and hashlib.sha256(weights).hexdigest() != expected:
        raise ValueError("other bytes than were written, by their SHA-256")
    state: dict[str, Tensor] = from_bytes(weights)
    return state


def _networks(explainer: Explainer) -> nn.ModuleDict:
    """Networks of an explainer that are saved, with batch norms folded."""
    kept = {"encoder": explainer.encoder, "confidence": explainer.confidence}
    return nn.ModuleDict({k: fold_batch_norm(v) for k, v in kept.items() if v is not None})


def write_directory(
    directory: Path,
    config: ExplainerConfig,
    state: Mapping[str, Tensor],
    copied: Mapping[str, Path | None],
) -> None:
    """Write an explainer's files so that old and new ones are never mixed.

    All files are first written beside their final places. An earlier ``config.json``, without which
    nothing can be loaded, is removed before they are moved, and the new one is moved last.

    Args:
        directory: Directory to write to; made if needed.
        config: Configuration of the explainer.
        state: Weights by name.
        copied: Files to copy, by their new names; None removes that of an earlier explainer.

    Raises:
        OSError: If it cannot be written; an earlier explainer there stays as it was.
    """
    weights = to_bytes({name: value.contiguous() for name, value in state.items()})
    plain = config.to_plain() | {HASH: hashlib.sha256(weights).hexdigest()}
    text = json.dumps(plain, indent=2)
    settings = directory / CONFIG
    with ExitStack() as files:  # moves them in reverse order
        files.enter_context(whole_file(settings)).write_text(text + "\n")
        model = files.enter_context(whole_file(directory / WEIGHTS))
        model.write_bytes(weights)
        for name, source in copied.items():
            place = directory / name
            if source is None:
                files.callback(place.unlink, missing_ok=True)  # or it would pass for this one's
            elif source.resolve() != place.resolve():
                shutil.copyfile(source, files.enter_context(whole_file(place)))
        files.callback(settings.unlink, missing_ok=True)


def read_config(directory: str | Path) -> ExplainerConfig:
    """Read an explainer's ``config.json``.

    Raises:
        ValueError: If the directory holds no explainer of a format that this version knows.
    """
    path = Path(directory) / CONFIG
    try:
        plain: dict[str, Any] = json.loads(path.read_text())
        plain["format"]
    except FileNotFoundError:
        raise ValueError(
            f"Expected {directory} to be an explainer's directory with {CONFIG} and {WEIGHTS}. "
            f"Found no {path}.{did_you_mean(str(directory), [UNIVERSAL])}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected {directory} to be an explainer's directory with {CONFIG} and {WEIGHTS}. "
            f"Found {described(error)}."
        ) from None
    plain.pop(HASH, None)
    return ExplainerConfig.from_plain(plain, str(path))


def find_directory(path_or_hub_id: str | Path, download: Mapping[str, Any]) -> Path:
    """Find an explainer's directory, downloading ``owner/name`` if there is no such path.

    Args:
        path_or_hub_id: A directory of an explainer or of the run that trained it, or an id on the
            Hugging Face Hub.
        download: Options of ``huggingface_hub.snapshot_download``.

    Raises:
        ValueError: If it is neither, or options are given for an explainer that is not on the Hub.
    """
    path = Path(path_or_hub_id)
    if path.is_dir() or isinstance(path_or_hub_id, Path) or path_or_hub_id.count("/") != 1:
        if download:
            raise ValueError(
                "Expected options of a download only for owner/name on the Hugging Face Hub. "
                f"Found {', '.join(download)} for {path_or_hub_id}."
            )
        if path_or_hub_id == UNIVERSAL and not path.is_dir():
            return _SHIPPED / UNIVERSAL
        of_run = path / "explainer"
        return of_run if not (path / CONFIG).exists() and of_run.is_dir() else path
    files = [CONFIG, WEIGHTS, CLASSIFIER, FIGURE]
    try:
        with hub_or_cache():
            return Path(snapshot_download(path_or_hub_id, allow_patterns=files, **download))
    except Exception as error:  # errors of the Hub and of HTTP have no common base
        raise ValueError(
            f"Expected {path_or_hub_id} to be an explainer's directory or an id on the Hugging "
            f"Face Hub. Found neither ({described(error)})."
        ) from None
