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

from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.model_card import FIGURE
from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.runtime.text import described

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_directory(
    directory: Path, config: ExplainerConfig, state: Mapping[str, Tensor], figure: Path | None
) -> None:
    """Write an explainer's files.

    At no moment is there a mixture: all files are written beside their places first, an earlier
    ``config.json``, without which nothing is loaded, goes before they are moved, and the new one
    comes last.

    Args:
        directory: Made if needed.
        config: Of the explainer.
        state: Weights by name.
        figure: Picture to copy; None leaves none, of an earlier explainer neither.

    Raises:
        OSError: If it cannot be written; an earlier explainer is untouched.
    """
    text = json.dumps(config.to_plain(), indent=2)
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


def read_config(directory: str | Path) -> ExplainerConfig:
    """Read an explainer's ``config.json``.

    Raises:
        ValueError: If the directory holds no explainer of a format that this version knows.
    """
    path = Path(directory) / CONFIG
    try:
        plain: dict[str, Any] = json.loads(path.read_text())
        plain["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected {directory} to be an explainer's directory with {CONFIG} and {WEIGHTS}. "
            f"Found {type(error).__name__}: {error}."
        ) from None
    return ExplainerConfig.from_plain(plain, str(path))


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
