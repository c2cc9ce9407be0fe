"""An explainer: images in, a distribution over their saliency maps out.

On disk it is a directory of ``model.safetensors`` and ``config.json``: loading executes nothing.
"""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from hydra.utils import instantiate
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from saliency_vae.classifiers import FrozenClassifier
from saliency_vae.distributions import Family, SaliencyPosterior, SaliencyPrior, make_posterior
from saliency_vae.encoders import fold_batch_norm
from saliency_vae.objective import Objective
from saliency_vae.refinement import Refinement, refine

FORMAT = 2
# A file must not choose what code is run: these, exactly, may be named in a config.json.
_LOADABLE = frozenset(
    {
        *(f"saliency_vae.encoders.{name}" for name in ("PaperEncoder", "UNet")),
        *(f"saliency_vae.distributions.{name}" for name in ("KroneckerNormal", "SoftTVNormal")),
        "saliency_vae.topk.SoftTopK",
        *(
            f"saliency_vae.perturbations.{name}"
            for name in ("Blur", "Mean", "Noise", "Constant", "Mixture")
        ),
    }
)
_BUILT = ("encoder", "prior", "topk", "perturbation")


class Explainer(nn.Module, PyTorchModelHubMixin):
    """Encoder and the family of its posterior.

    ``config`` holds what ``config.json`` does: its parts as Hydra nodes, the identity of the
    classifier it explains, and whatever else is worth knowing (metrics, command, data).

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
        posterior: Family = "mean_field",
    ) -> None:
        super().__init__()
        if posterior not in get_args(Family):
            raise ValueError(f"Expected posterior mean_field or correlated. Found {posterior!r}.")
        prior(2, 2)  # refuses bad parameters now rather than at the first image
        self.encoder = encoder
        self.posterior = posterior
        self.config: dict[str, Any] = {}
        self._prior = lru_cache(maxsize=4)(prior)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build an untrained explainer from its configuration: plain values and Hydra nodes."""
        explainer = cls(
            instantiate(config["encoder"], _convert_="all"),
            prior=instantiate(config["prior"], _convert_="all"),
            posterior=config["posterior"],
        )
        explainer.config = dict(config)
        return explainer

    def prior(self, images: Tensor) -> SaliencyPrior:
        """Prior p(s) over maps of images (B, 3, H, W): one object for each size and device."""
        height, width = images.shape[-2:]
        with torch.inference_mode(False):  # it may be used in training later
            return self._prior(height, width, device=images.device)

    def forward(self, images: Tensor) -> SaliencyPosterior:
        """Explain images.

        Args:
            images: In [0, 1], (B, 3, H, W), H, W >= 16.

        Returns:
            Posterior q(s|x), batch shape (B,), event shape (H, W), float32.
        """
        mean, log_variance = self.encoder(images).float().unbind(1)
        return make_posterior(self.posterior, mean, log_variance, self.prior(images))

    def objective(self) -> Objective:
        """Objective that this explainer was trained with.

        Raises:
            ValueError: If its configuration does not say.
        """
        missing = {"topk", "perturbation", "beta"} - self.config.keys()
        if missing:
            raise ValueError(
                "Expected an explainer whose config.json holds topk, perturbation and beta. "
                f"Found none of {', '.join(sorted(missing))}."
            )
        topk, perturbation = (
            instantiate(self.config[name], _convert_="all") for name in ("topk", "perturbation")
        )
        return Objective(topk, perturbation, self.config["beta"])

    def refine(
        self, images: Tensor, classifier: FrozenClassifier, *, steps: int, **settings: Any
    ) -> Refinement:
        """Improve the explanation of each image by optimising it alone, from the encoder's answer.

        Args:
            images: In [0, 1], (B, 3, H, W).
            classifier: That this explainer explains.
            steps: Gradient steps.
            settings: See :func:`saliency_vae.refinement.refine`.
        """
        with torch.no_grad():
            posterior = self(images)
        return refine(
            posterior,
            images,
            classifier,
            **{
                "objective": self.objective(),
                "prior": self.prior(images),
                "family": self.posterior,
                "steps": steps,
                **settings,
            },
        )

    @torch.no_grad()
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None
    ) -> Tensor | tuple[Tensor, ...]:
        """Attribute as Captum does: the posterior mean, the same in every channel.

        Args:
            inputs: Images in [0, 1], (B, 3, H, W); tensor in, tensor out, tuple in, tuple out.
            target: Accepted and not used: the whole prediction is explained, not one class.
        """
        if isinstance(inputs, tuple):
            return tuple(self._attribution(images) for images in inputs)
        return self._attribution(inputs)

    def _attribution(self, images: Tensor) -> Tensor:
        mean: Tensor = self(images).mean
        return mean.to(images.dtype).unsqueeze(1).expand_as(images).contiguous()

    def _save_pretrained(self, save_directory: Path) -> None:
        save_explainer(self, save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **download: Any) -> "Explainer":
        names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        options = {name: download[name] for name in names if name in download}
        return load_explainer(model_id, **options)


def save_explainer(explainer: Explainer, directory: Path) -> None:
    """Write an explainer so that :func:`load_explainer` reads it, its batch norms folded.

    Args:
        explainer: To save, with its ``config``.
        directory: Made if needed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = fold_batch_norm(explainer.encoder).state_dict()
    save_file(
        {name: value.contiguous() for name, value in state.items()},
        directory / "model.safetensors",
    )
    text = json.dumps({**explainer.config, "format": FORMAT}, indent=2)
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
    for part in _BUILT:
        for target in _targets(config.get(part)):
            if target not in _LOADABLE:
                raise ValueError(
                    f"Expected the {part} to be one of this package's. Found {target} in {path}."
                )
    return config


def load_explainer(path_or_hub_id: str | Path, **download: Any) -> Explainer:
    """Load an explainer, ready for use on the CPU: eval mode, batch norms folded.

    Args:
        path_or_hub_id: Directory that training wrote as ``explainer/``, or ``owner/name`` on the
            Hugging Face Hub, looked up where there is no such directory.
        download: Options of ``huggingface_hub.snapshot_download``, such as ``revision``.

    Raises:
        ValueError: If there is no intact explainer.
    """
    directory = _directory(path_or_hub_id, download)
    explainer = Explainer.from_config(read_config(directory))
    explainer.encoder = fold_batch_norm(explainer.encoder)
    try:
        explainer.encoder.load_state_dict(load_file(directory / "model.safetensors"))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"Expected {directory}/model.safetensors to hold the encoder of its config.json. "
            f"Found {type(error).__name__}: {' '.join(str(error).split())}"
        ) from None
    return explainer.eval().requires_grad_(False)


def _directory(path_or_hub_id: str | Path, download: dict[str, Any]) -> Path:
    path = Path(path_or_hub_id)
    if path.is_dir() or isinstance(path_or_hub_id, Path) or path_or_hub_id.count("/") != 1:
        return path
    try:
        files = ["config.json", "model.safetensors"]
        return Path(snapshot_download(path_or_hub_id, allow_patterns=files, **download))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"Expected {path_or_hub_id} to be an explainer's directory or an id on the Hugging "
            f"Face Hub. Found neither ({type(error).__name__})."
        ) from None


def _targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` in a node, however deep."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _targets(item)
