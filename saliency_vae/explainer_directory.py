"""An explainer on disk: ``model.safetensors`` and ``config.json``. Reading executes nothing."""

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors.torch import save as to_bytes
from torch import Tensor

from saliency_vae.atomic_file import whole_file
from saliency_vae.errors import described
from saliency_vae.loadable import check_loadable
from saliency_vae.model_card import FIGURE

FORMAT = 3
CONFIG, WEIGHTS = "config.json", "model.safetensors"
# A file must not choose what code is run: of a config.json these parts are built, and may name
# these, exactly.
_LOADABLE = {
    "encoder": {
        "saliency_vae.encoders.PaperEncoder",
        "saliency_vae.encoders.UNet",
        "saliency_vae.informed_encoder.InformedUNet",
    },
    "prior": {
        "saliency_vae.priors.ExponentialPrior",
        "saliency_vae.distributions.KroneckerNormal",
        "saliency_vae.distributions.SoftTVNormal",
    },
    "confidence": {"saliency_vae.confidence.ConfidenceNetwork"},
    "topk": {"saliency_vae.topk.SoftTopK"},
    "perturbation": {
        f"saliency_vae.perturbations.{name}"
        for name in ("Blur", "Mean", "Noise", "Constant", "Mixture")
    },
}


def write_directory(
    directory: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], figure: Path | None
) -> None:
    """Write an explainer's files.

    At no moment is there a mixture: all files are written beside their places first, an earlier
    ``config.json``, without which nothing is loaded, goes before they are moved, and the new one
    comes last.

    Args:
        directory: Made if needed.
        config: Plain values; the format is added.
        state: Weights by name.
        figure: Picture to copy; None leaves none, of an earlier explainer neither.

    Raises:
        OSError: If it cannot be written; an earlier explainer is untouched.
    """
    text = json.dumps({**config, "format": FORMAT}, indent=2)
    settings, drawn = directory / CONFIG, directory / FIGURE
    with ExitStack() as files:  # moves them in reverse order
        files.enter_context(whole_file(settings)).write_text(text + "\n")
        model = files.enter_context(whole_file(directory / WEIGHTS))
        model.write_bytes(to_bytes({name: value.contiguous() for name, value in state.items()}))
        if figure is None:
            files.callback(drawn.unlink, missing_ok=True)  # it would pass for this explainer's
        elif figure.resolve() != drawn.resolve():
            shutil.copyfile(figure, files.enter_context(whole_file(drawn)))
        files.callback(settings.unlink, missing_ok=True)


def read_config(directory: str | Path) -> dict[str, Any]:
    """Read an explainer's ``config.json``.

    Raises:
        ValueError: If the directory holds no explainer of this format.
    """
    path = Path(directory) / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        found = config["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected {directory} to be an explainer's directory with {CONFIG} and {WEIGHTS}. "
            f"Found {type(error).__name__}: {error}."
        ) from None
    if found != FORMAT:
        raise ValueError(f"Expected an explainer of format {FORMAT}. Found {found} in {path}.")
    for part, allowed in _LOADABLE.items():
        check_loadable(config.get(part), allowed, f"{path}: {part}")
    return config


def find_directory(path_or_hub_id: str | Path, download: Mapping[str, Any]) -> Path:
    """Find the directory of a path, or download that of ``owner/name`` where there is no such path.

    Args:
        path_or_hub_id: Either.
        download: Options of ``huggingface_hub.snapshot_download``.

    Raises:
        ValueError: If it is neither.
    """
    path = Path(path_or_hub_id)
    if path.is_dir() or isinstance(path_or_hub_id, Path) or path_or_hub_id.count("/") != 1:
        return path
    files = [CONFIG, WEIGHTS, FIGURE]
    try:
        return Path(snapshot_download(path_or_hub_id, allow_patterns=files, **download))
    except Exception as error:  # the hub's own and its HTTP library's, with no common base
        raise ValueError(
            f"Expected {path_or_hub_id} to be an explainer's directory or an id on the Hugging "
            f"Face Hub. Found neither ({described(error)})."
        ) from None
