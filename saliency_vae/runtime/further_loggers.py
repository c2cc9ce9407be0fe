"""Lightning's loggers for optional packages: TensorBoard and MLflow."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.runtime.extras import require


class TensorBoardCurves(TensorBoardLogger):
    """Lightning's logger for TensorBoard; a resumed run continues its curves.

    Args:
        save_dir: Directory of the files.

    Raises:
        ValueError: If TensorBoard is not installed.
    """

    def __init__(self, save_dir: str) -> None:
        require("tensorboard", extra="tensorboard", wanted_by="logger=tensorboard, or logger=csv")
        # Lightning would add directories of its own, and a metric that nothing measures.
        super().__init__(save_dir, name="", version="", default_hp_metric=False)

    def start(self, step: int) -> None:
        """Set the first step of this part of the run; TensorBoard hides earlier logs from it on.

        Args:
            step: Number of steps done before.
        """
        self._kwargs["purge_step"] = step


class _ResumedMLflow(MLFlowLogger):
    """Lightning's logger for a resumed MLflow run, whose parameters MLflow refuses to change."""

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Do nothing."""


def mlflow_logger(
    save_dir: str,
    experiment: str = "saliency_vae",
    name: str | None = None,
    tracking_uri: str | None = None,
) -> MLFlowLogger:
    """Make a logger for MLflow; a resumed run continues the same MLflow run.

    Args:
        save_dir: Directory of the run, in which the id of its MLflow run is kept.
        experiment: Name of MLflow's experiment, which is made if needed.
        name: Name of the run; the name of its own directory is appended.
        tracking_uri: Address of MLflow's server or database; by default that in the environment
            variable MLFLOW_TRACKING_URI, or else ``outputs/mlflow.db`` in the current directory.

    Raises:
        ValueError: If MLflow is not installed.
    """
    require("mlflow", extra="mlflow", wanted_by="logger=mlflow, or logger=csv")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report usage
    uri, artifacts = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), None
    if not uri:
        place = Path("outputs").resolve()
        place.mkdir(exist_ok=True)
        uri, artifacts = f"sqlite:///{place}/mlflow.db", (place / "mlflow").as_uri()
    file = Path(save_dir) / "mlflow_run_id"
    is_first = not getattr(rank_zero_only, "rank", 0)  # only this process logs
    kind = _ResumedMLflow if is_first and file.is_file() else MLFlowLogger
    logger = kind(
        experiment,
        run_name=f"{name}/{Path(save_dir).name}" if name else None,
        tracking_uri=uri,
        artifact_location=artifacts,
        run_id=file.read_text() if kind is _ResumedMLflow else None,
    )
    if is_first and logger.run_id is not None:
        write_whole(file, logger.run_id)
    return logger
