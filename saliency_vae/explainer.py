"""An explainer: images in, a distribution over their saliency maps out.

On disk it is a directory of ``model.safetensors`` and ``config.json``: loading executes nothing.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saliency_vae.distributions import (
    CorrelatedNormal,
    DiagonalNormal,
    SaliencyPosterior,
    SaliencyPrior,
)

Posterior = Literal["mean_field", "correlated"]
FORMAT = 1
_LOADABLE = ("saliency_vae.encoders.", "saliency_vae.distributions.")


class Explainer(nn.Module):
    """Encoder and the family of its posterior.

    Args:
        encoder: Images (B, 3, H, W) to mean and log-variance (B, 2, H, W).
        prior: Makes the prior over maps of ``(height, width, device=...)``.
        posterior: ``mean_field``, independent pixels (the paper), or ``correlated`` as the prior.

    Raises:
        ValueError: If posterior is unknown or the prior's parameters are out of range.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prior: Callable[..., SaliencyPrior],
        posterior: Posterior = "mean_field",
    ) -> None:
        super().__init__()
        if posterior not in get_args(Posterior):
            raise ValueError(f"Expected posterior mean_field or correlated. Found {posterior!r}.")
        prior(2, 2)  # refuses bad parameters now rather than at the first image
        self.encoder = encoder
        self.posterior = posterior
        # Makes p(s) of (height, width, device=...); the same object for the same arguments.
        self.prior = lru_cache(maxsize=4)(prior)

    def forward(self, images: Tensor) -> SaliencyPosterior:
        """Explain images.

        Args:
            images: In [0, 1], (B, 3, H, W), H, W >= 16.

        Returns:
            Posterior q(s|x), batch shape (B,), event shape (H, W), float32.
        """
        mean, log_variance = self.encoder(images).float().unbind(1)
        if self.posterior == "mean_field":
            return DiagonalNormal(mean, log_variance)
        prior = self.prior(*images.shape[-2:], device=images.device)
        return CorrelatedNormal(mean, log_variance, prior)


def save_explainer(explainer: Explainer, directory: Path, config: dict[str, Any]) -> None:
    """Write an explainer so that :func:`load_explainer` reads it.

    Args:
        explainer: To save.
        directory: Made if needed.
        config: Plain values; ``encoder`` and ``prior`` as Hydra nodes, ``posterior``, and
            whatever else is worth knowing (classifier identity, metrics, command).
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in explainer.encoder.state_dict().items()}
    save_file(state, directory / "model.safetensors")
    text = json.dumps({"format": FORMAT, **config}, indent=2)
    (directory / "config.json").write_text(text + "\n")


def read_config(directory: str | Path) -> dict[str, Any]:
    """Read an explainer's ``config.json``.

    Raises:
        ValueError: If the directory holds no explainer of this format.
    """
    path = Path(directory) / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        found = config["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"Expected {directory} to be an explainer's directory with config.json and "
            f"model.safetensors. Found {type(error).__name__}: {error}."
        ) from None
    if found != FORMAT:
        raise ValueError(f"Expected an explainer of format {FORMAT}. Found {found} in {path}.")
    return config


def load_explainer(directory: str | Path) -> Explainer:
    """Load an explainer, ready for use on the CPU.

    Args:
        directory: That training wrote as ``explainer/``.

    Raises:
        ValueError: If the directory holds no intact explainer.
    """
    config = read_config(directory)
    for part in ("encoder", "prior"):
        target = config[part]["_target_"]
        if not target.startswith(_LOADABLE):  # a file must not choose what code is run
            raise ValueError(
                f"Expected the {part} to be one of this package's. Found {target} in {directory}."
            )
    explainer = Explainer(
        instantiate(config["encoder"], _convert_="all"),
        prior=instantiate(config["prior"], _convert_="all"),
        posterior=config["posterior"],
    )
    try:
        explainer.encoder.load_state_dict(load_file(Path(directory) / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"Expected {directory}/model.safetensors to hold the encoder of its config.json. "
            f"Found {type(error).__name__}: {error}"
        ) from None
    return explainer.eval()
