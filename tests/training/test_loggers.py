"""TensorBoard and MLflow, in a training that is resumed."""

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from saliency_vae.cli.resumed_overrides import with_overrides_of_run
from saliency_vae.runtime.further_loggers import TensorBoardCurves, mlflow_logger
from saliency_vae.train import train
from tests.commands.test_train import tiny


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *with_overrides_of_run(list(arguments))])
    train()


@pytest.mark.parametrize(
    ("make", "package"), [(TensorBoardCurves, "tensorboard"), (mlflow_logger, "mlflow")]
)
def test_a_missing_package_is_named(
    make: Any, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saliency_vae.runtime.extras.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"pip install 'saliency-vae\[{package}\]'"):
        make(str(tmp_path))


@pytest.mark.usefixtures("plain_panels")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of its packages
def test_both_hold_curves_pictures_and_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run goes on as the same run of both."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for later runs
    run = tmp_path / "run"
    settings = [*tiny(tmp_path), "logger=[tensorboard,mlflow]", "scheduler=constant"]
    run_here(monkeypatch, *settings, "trainer.max_epochs=1", f"hydra.run.dir={run}")
    run_here(monkeypatch, "ckpt_path=last", f"hydra.run.dir={run}", "trainer.max_epochs=2")
    check_tensorboard(run / "tensorboard")
    check_mlflow(run, f"sqlite:///{tmp_path}/outputs/mlflow.db")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # W&B's own use of its packages
def test_the_view_of_a_wandb_project_is_laid_out() -> None:
    """As far as it goes without W&B itself: what would be sent."""
    pytest.importorskip("wandb_workspaces")
    script = runpy.run_path(str(Path(__file__).parents[2] / "docs/wandb_view.py"))
    sent = script["build"]("me", "mine", ["prior.correlation"])._to_model().model_dump_json()
    for name in ("prior.value.correlation", "summary:best/loss", "explanations", "val/loss"):
        assert name in sent


def check_tensorboard(directory: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = EventAccumulator(str(directory)).Reload()
    assert [event.step for event in found.Scalars("val/loss")] == [3, 7]
    assert len(found.Images("explanations")) == 2
    assert found.Scalars("best/loss")
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["prior/correlation"].number_value == 0.9


def check_mlflow(directory: Path, address: str) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("saliency_vae")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == (directory / "mlflow_run_id").read_text()
    assert run.data.params["prior/correlation"] == "0.9"
    assert run.data.metrics["best/loss"] > 0
    assert [m.step for m in client.get_metric_history(run.info.run_id, "val/loss")] == [3, 7]
    pictures = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    assert len([path for path in pictures if path.endswith(".png")]) == 2
