"""Loggers of packages that are optional: TensorBoard and MLflow, both of Lightning."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from saliency_vae.runtime.atomic_file import write_whole
from saliency_vae.runtime.extras import require


class TensorBoardCurves(TensorBoardLogger):
    """Lightning's logger of TensorBoard, whose curves a resumed run goes on with.

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
        """Tell where this part of the run starts: TensorBoard hides what was logged from there on.

        Args:
            step: Number of steps made before.
        """
        self._kwargs["purge_step"] = step


class _ResumedMLflow(MLFlowLogger):
    """Lightning's logger of an MLflow run that has its parameters: MLflow refuses to change any."""

    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Do nothing."""


def mlflow_logger(
    save_dir: str,
    experiment: str = "saliency_vae",
    name: str | None = None,
    tracking_uri: str | None = None,
) -> MLFlowLogger:
    """Make a logger for MLflow; a resumed run goes on as the same run of MLflow.

    Args:
        save_dir: Directory of the run, which holds the id of the run at MLflow.
        experiment: Name of MLflow's experiment, which is made if needed.
        name: Name of the run; that of the directory is added, as runs have one of their own.
        tracking_uri: Address of MLflow's server or database; by default that in the environment
            variable MLFLOW_TRACKING_URI, and without it ``outputs/mlflow.db``, here.

    Raises:
        ValueError: If MLflow is not installed.
    """
    require("mlflow", extra="mlflow", wanted_by="logger=mlflow, or logger=csv")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would call its makers
    uri, artifacts = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"), None
    if not uri:
        place = Path("outputs").resolve()
        place.mkdir(exist_ok=True)
        uri, artifacts = f"sqlite:///{place}/mlflow.db", (place / "mlflow").as_uri()
    file = Path(save_dir) / "mlflow_run_id"
    is_first = not getattr(rank_zero_only, "rank", 0)  # the process that alone logs
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
