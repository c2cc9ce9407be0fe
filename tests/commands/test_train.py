"""The command, from the command line to the run's directory."""

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console
from safetensors.torch import save_file

from saliency_vae import load_explainer
from saliency_vae.classifiers.builders import custom_classifier
from saliency_vae.classifiers.digits import cluttered_digits_classifier
from saliency_vae.cli.resumed_overrides import with_overrides_of_run
from saliency_vae.cli.sweep import _COMPARED, SweepTable, _table, read_metrics
from saliency_vae.evaluate import evaluate
from saliency_vae.explain import explain
from saliency_vae.export import export
from saliency_vae.exporting.formats import FORMATS, Run
from saliency_vae.models.config import ExplainerConfig
from saliency_vae.models.explainer import Explainer
from saliency_vae.train import train
from saliency_vae.training.finalize import finish
from tests.conftest import BlobsData, MakeModule, draw_plain_panels
from tests.helpers import tiny_classifier
from tests.helpers.digits import write_digits
from tests.models.test_explainer import trained_explainer

TINY = [
    "experiment=cluttered_digits",
    "data.image_size=32",
    "data.train_size=64",
    "data.val_size=16",
    "data.test_size=4",
    "data.batch_size=16",
    "classifier.train_size=64",
    "classifier.epochs=1",
    "encoder.channels=[4,8]",
    "callbacks.panels.images=1",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=2",
    "++trainer.enable_progress_bar=false",
    "++trainer.enable_model_summary=false",
]


def tiny(directory: Path) -> list[str]:
    """Settings of a tiny run, of a classifier that nobody has trained."""
    path = write_digits(directory / "classifier.safetensors")
    return [*TINY, f"classifier.path={path}"]


def run_here(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the command in this process: importing anew takes most of a command's time."""
    monkeypatch.setattr(sys, "argv", ["train.py", *with_overrides_of_run(list(arguments))])
    train()


def error_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        run_here(monkeypatch, *arguments)
    message = str(exit_info.value)
    assert message.startswith("error: "), message
    assert "\n" not in message
    return message


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    return [*TINY, f"classifier.path={tmp_path}/classifier.safetensors"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Grey(torch.nn.Module):
    """A perturbation of the user's own."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full_like(images, 0.5)


def test_an_explainer_trained_with_a_perturbation_of_ones_own_can_be_loaded_and_resumed(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_plain_panels(monkeypatch)
    run = tmp_path / "run"
    own = ["perturbation=mean", f"perturbation._target_={__name__}.Grey", "scheduler=constant"]
    run_here(monkeypatch, *settings, *own, "logger=csv", f"hydra.run.dir={run}")
    explainer = load_explainer(run)
    assert explainer.config.perturbation is None
    explainer.attach_classifier(explainer.build_classifier())
    assert explainer.explain(torch.rand(3, 32, 32)).sufficiency is not None
    run_here(monkeypatch, "ckpt_path=last", f"hydra.run.dir={run}", "trainer.max_epochs=3")
    epochs = [int(row["epoch"]) for row in rows(run / "metrics.csv") if row["epoch"]]
    assert max(epochs) == 3  # the test after the third epoch


def test_a_run_directory_holds_what_the_contract_says_and_resumes(
    tmp_path: Path,
    settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    run_here(monkeypatch, *settings, "scheduler=constant", f"hydra.run.dir={run}")
    printed, said = capfd.readouterr()
    assert printed.splitlines()[-1] == str(run / "explanations.png")
    for noise in ("TPU", "Tip", "FLOPs", "wandb:", "estimate number", "Warning", "it/s"):
        assert noise not in printed + said
    for name in (
        "explainer/classifier.safetensors",
        ".hydra/config.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "explanations.png",
        "panels/epoch_000.png",
        "panels/epoch_001.png",
    ):
        assert (run / name).stat().st_size > 0, name
    with Image.open(run / "explanations.png") as picture:
        assert min(picture.size) > 500

    config = json.loads((run / "explainer/config.json").read_text())
    assert config["encoder"]["channels"] == [4, 8]
    assert config["image_size"] == [32, 32]
    assert len(config["classifier"]["sha256"]) == 64
    assert {"val/loss", "test/iou", "test/pointing_game"} <= set(config["metrics"])
    assert len(config.pop("weights_sha256")) == 64
    best = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    explainer = Explainer.from_config(ExplainerConfig.from_plain(config, "config.json"))
    prefix = "explainer."
    explainer.load_state_dict(
        {k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}
    )
    images = torch.rand(2, 3, 40, 33)
    posterior = load_explainer(run / "explainer")(images)
    expected = explainer.eval()(images)
    torch.testing.assert_close(posterior.mean, expected.mean, rtol=1e-3, atol=1e-4)
    assert posterior.inclusion_probability(0.1).shape == (2, 40, 33)

    logged = rows(run / "metrics.csv")
    for name in ("train/loss", "train/images_per_second", "val/loss", "val/agreement_5"):
        assert any(row[name] for row in logged), name
    check_wandb(run)

    draw_plain_panels(monkeypatch)
    run_here(
        monkeypatch, "ckpt_path=last", f"hydra.run.dir={run}", "trainer.max_epochs=3", "logger=csv"
    )
    resumed = rows(run / "metrics.csv")
    assert [row["epoch"] for row in resumed if row["val/loss"]] == ["0", "1", "2"]
    assert [row["val/loss"] for row in resumed if row["epoch"] in ("0", "1")] == [
        row["val/loss"] for row in logged if row["epoch"] in ("0", "1")
    ]
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 2

    saved = (run / "explainer/config.json").read_bytes()
    for changed, said in (
        (("beta=7", "prior.correlation=0.5"), "correlation=0.9, beta=0.*correlation=0.5, beta=7"),
        (("encoder=unet",), "encoder=conditional_unet.*Found encoder=unet"),
    ):
        message = error_of(
            monkeypatch, "ckpt_path=last", f"hydra.run.dir={run}", "logger=csv", *changed
        )
        assert re.search(said, message), message
        assert (run / "explainer/config.json").read_bytes() == saved


def check_wandb(run: Path) -> None:
    """Read the offline run back with W&B's own reader: curves, panels, configuration."""
    (log,) = (run / "wandb").glob("offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    records = [json.loads(line) for line in printed.splitlines()]
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    losses = [item["val/loss"] for item in history if "val/loss" in item]
    assert losses == [
        float(row["val/loss"]) for row in rows(run / "metrics.csv") if row["val/loss"]
    ]
    assert any("train/kl_above_floor" in item for item in history)
    panels = [item for item in history if "explanations.filenames" in item]
    assert len(panels) == 2
    assert (log.parent / "files" / panels[0]["explanations.filenames"][0]).stat().st_size > 10_000
    config = [record["config"]["update"] for record in records if record["type"] == "config"]
    assert any(update.get("prior", {}).get("correlation") == 0.9 for update in config)


def test_imagenet_without_data_is_one_error_before_any_download(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("IMAGENET_ROOT", raising=False)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("net"))
    message = error_of(monkeypatch, f"hydra.run.dir={tmp_path}")
    assert "data.root" in message
    assert "experiment=cluttered_digits" in message


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("prior.correlation=1.5", "prior.correlation"),
        ("prior.correlation=abc", "prior.correlation"),
        ("+prior.corelation=0.5", "Did you mean correlation?"),
        ("prior.corelation=0.5", "Did you mean correlation?"),
        ("topk.steps=3", "+topk.steps=VALUE adds it, where saliency_vae.topk.SoftTopK takes it."),
        ("encoder=vit", "paper, unet"),
        ("beta=[", "beta"),
        ("+trainer.max_epoch=2", "Did you mean max_epochs?"),
        ("trainer.max_stpes=2", "Found trainer.max_stpes. Did you mean max_steps?"),
        ("posterior=meanfield", "mean_field or correlated"),
        ("data.batch_size=63 trainer.accumulate_grad_batches=2", "data.batch_size"),
        ("topk.fraction=[0.5,0.1]", "topk.fraction"),
        ("topk.temperature=0", "topk.temperature"),
        ("beta=-1", "beta"),
        ("ckpt_path=last", "ckpt_path"),
        ("ckpt_path=/nowhere.ckpt", "ckpt_path"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(
    override: str,
    expected: str,
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = [*settings, *override.split(), f"hydra.run.dir={tmp_path}", "logger=csv"]
    assert expected in error_of(monkeypatch, *arguments)


def test_image_folder_with_a_classifier_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_classifier.py").write_text(
        "from torch import nn\n"
        "def build(labels):\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, labels))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_classifier  # type: ignore[import-not-found]

    torch.save(my_classifier.build(1).state_dict(), tmp_path / "weights.pt")
    images = tmp_path / "images/deep"
    images.mkdir(parents=True)
    for index in range(10):
        size = (40 + index, 36)
        Image.effect_noise(size, 90).convert("RGB").save(images / f"{index}.jpg")
    run_here(
        monkeypatch,
        "data=image_folder",
        f"data.root={tmp_path}/images",
        "data.batch_size=4",
        "data.num_workers=0",
        "classifier=custom",
        "classifier.module=my_classifier.build",
        "classifier.arguments={labels: 1}",
        f"classifier.weights={tmp_path}/weights.pt",
        "classifier.output=sigmoid",
        "classifier.resize_size=32",
        "classifier.crop_size=32",
        "encoder=unet",
        "encoder.channels=[4,8]",
        "posterior=correlated",
        "perturbation=mixture",
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "logger=csv",
        f"hydra.run.dir={tmp_path}/run",
    )
    config = json.loads((tmp_path / "run/explainer/config.json").read_text())
    assert config["classifier"]["output"] == "sigmoid"
    assert 0 <= config["metrics"]["val/agreement_20"] <= 1


@pytest.mark.usefixtures("plain_panels", "plain_figures")
def test_an_encoder_that_asks_the_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    settings = [*tiny(tmp_path), "logger=csv", "trainer.max_epochs=1"]
    run_here(monkeypatch, *settings, f"hydra.run.dir={run}")
    assert json.loads((run / "explainer/config.json").read_text())["encoder"]["features"] == {
        "1": {"channels": 24, "stride": 2},
        "4": {"channels": 48, "stride": 4},
        "7": {"channels": 64, "stride": 8},
    }

    explainer = load_explainer(run / "explainer")
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        expected = explainer(images).mean  # of the classifier that it recorded
    # It knows the classifier: another one's signals change the map.
    others = cluttered_digits_classifier(tmp_path / "other.safetensors", 32, 64, 1, seed=1)
    assert not torch.allclose(
        explainer.attach_classifier(others, force=True)(images).mean, expected, atol=1e-3
    )

    save_file(tiny_classifier.build().state_dict(), tmp_path / "custom.safetensors")
    custom = (
        "custom",
        "module=tests.helpers.tiny_classifier.build",
        f"weights={tmp_path}/custom.safetensors",
    )
    without = [setting for setting in settings if not setting.startswith("classifier.")]
    of_other = [f"classifier{'.' if '=' in part else '='}{part}" for part in custom]
    two = tmp_path / "two"
    run_here(monkeypatch, *without, *of_other, f"hydra.run.dir={two}")
    with pytest.raises(ValueError, match=r"explainer\.attach_classifier\(classifier\) in Python"):
        load_explainer(two / "explainer")(images)
    monkeypatch.setattr(
        sys, "argv", ["-", f"explainer={two}/explainer", "format=torch_export", *of_other]
    )
    loaded: list[Run] = []  # by the command, which compares it; to load it takes seconds
    form = FORMATS["torch_export"]

    def load(path: Path) -> Run:
        loaded.append(form.load(path))
        return loaded[-1]

    monkeypatch.setitem(FORMATS, "torch_export", replace(form, load=load))
    export()
    assert (two / "explainer/explainer.pt2").stat().st_size > 0
    (exported,) = loaded
    mine = custom_classifier(custom[1].partition("=")[2], tmp_path / "custom.safetensors")
    again = load_explainer(two / "explainer").attach_classifier(mine)(images)
    torch.testing.assert_close(exported(images)[0], again.mean, rtol=1e-4, atol=1e-4)

    randomised = (
        f"randomised={two}/explainer",
        f"classifier@randomised_classifier={custom[0]}",
        *(f"randomised_classifier.{part}" for part in custom[1:]),
    )

    Image.effect_noise((32, 32), 90).convert("RGB").save(tmp_path / "image.png")
    place = f"explainer={run}/explainer"
    few = [
        "methods=[explainer,random]",
        "steps=2",
        "baseline_images=[blur]",
        "reference_runs=0",
        *(
            f"{part}=0"
            for part in (
                *(
                    "reference_images",
                    "posterior_images",
                    "corruption_images",
                    "robustness_images",
                    "own_mask_images",
                ),
                *("grid_questions", "two_object_images", "gallery"),
            )
        ),
    ]
    for command, arguments in (
        (explain, (f"images={tmp_path}/image.png", f"output_dir={tmp_path}/explained")),
        (evaluate, ("data=cluttered_digits", "limit=4", *few, *randomised)),
    ):
        outputs = f"hydra.run.dir={tmp_path}/{command.__name__}"
        monkeypatch.setattr(sys, "argv", ["-", place, *arguments, outputs])
        command()
    assert (tmp_path / "explained/image.png.panel.jpg").is_file()
    assert (
        "an explainer for a randomised classifier"
        in (tmp_path / "evaluate/report.html").read_text()
    )


@pytest.mark.parametrize("is_global_zero", [True, False])
def test_only_the_first_process_reads_the_best_checkpoint(
    is_global_zero: bool, make_module: MakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, of_first = make_module(), make_module()
    module.explainer.recorded = ExplainerConfig(encoder={}, prior={})
    for parameter in of_first.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    best = {"state_dict": of_first.state_dict(), "metrics": {"val/loss": 0.5}}
    run = tmp_path / "nowhere" if not is_global_zero else tmp_path
    if is_global_zero:
        (run / "checkpoints").mkdir()
        torch.save({**best, "epoch": 1}, run / "checkpoints/best.ckpt")
    sent: list[Any] = []

    def broadcast(found: Any) -> Any:
        sent.append(found)
        return best

    trainer: Any = SimpleNamespace(
        is_global_zero=is_global_zero,
        loggers=[],
        world_size=1,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(broadcast=broadcast, barrier=lambda: None),
    )
    config: dict[str, Any] = {"classifier": {}, "data": {}, "tasks": {}}
    metrics = finish(trainer, module, BlobsData(), config, run)
    assert metrics.pop("val/loss") == 0.5
    assert ("val/insertion_gain" in metrics) == is_global_zero  # beside the gradient alone
    for ours, theirs in zip(module.parameters(), of_first.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    read = {"state_dict", "metrics"} if is_global_zero else set()
    assert [set(found) for found in sent] == [read]
    assert (tmp_path / "explainer/config.json").exists() == is_global_zero


def test_an_explainer_is_saved_before_what_may_take_more_memory_than_there_is(
    make_module: MakeModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = make_module()
    module.explainer.recorded = trained_explainer().config
    (tmp_path / "checkpoints").mkdir()
    best = {"state_dict": module.state_dict(), "metrics": {"val/loss": 0.5}}
    torch.save(best, tmp_path / "checkpoints/best.ckpt")

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("saliency_vae.training.finalize.compare_with_gradient", fail)
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        world_size=1,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(broadcast=lambda found: found),
    )
    config: dict[str, Any] = {"classifier": {}, "data": {}, "tasks": {}}
    with pytest.raises(torch.OutOfMemoryError):
        finish(trainer, module, BlobsData(), config, tmp_path)
    assert (tmp_path / "explainer/model.safetensors").stat().st_size > 0
    assert read_metrics(tmp_path) == {}  # a sweep calls the run failed


def test_the_job_of_a_sweep_finds_a_persons_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []

    def run(command: list[str], check: bool) -> SimpleNamespace:
        given.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr("saliency_vae.cli.sweep.subprocess.run", run)
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text(
        "# @package _global_\ndefaults: [cluttered_digits]\nname: mine\n"
    )
    where = f"hydra.searchpath=[file://{tmp_path}/own]"
    with pytest.raises(SystemExit, match="2 of 2 jobs failed"):
        run_here(
            monkeypatch,
            *("-m", where, "experiment=mine", "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"),
        )
    assert len(given) == 2
    assert all(where in command for command in given)


def test_a_sweep_shows_the_settings_that_differ() -> None:
    jobs = [{"job": str(i), "status": "done", "beta": "0.1", "seed": str(i)} for i in range(2)]
    shown = [column.header for column in _table(jobs, list(jobs[0]), "title").columns]
    assert shown == ["job", "status", "seed"]


def test_the_table_of_a_sweep_cuts_nothing_on_80_columns() -> None:
    values = {name: 0.1234 + number / 10 for number, name in enumerate(_COMPARED)}
    jobs: list[dict[str, Any]] = [
        {"job": str(i), "prior.correlation": f"0.{i}", "shown": f"[a,{i}]"}
        | {"status": "failed", **values}
        for i in (1, 2)
    ]
    printed = StringIO()
    Console(file=printed, width=80).print(_table(jobs, list(jobs[0]), "title"))
    lines = printed.getvalue().splitlines()
    assert "…" not in printed.getvalue()
    for heading in ("5 %", "10 %", "20 %", "recon.", "KL"):
        assert any(heading in line for line in lines), heading
    for job in ("1", "2"):
        (line,) = [line for line in lines if line.startswith(f" {job} ")]
        assert f"0.{job}" in line
        assert f"[a,{job}]" in line
        assert "failed" in line
        assert all(f"{value:.4f}" in line for value in values.values())


def test_a_sweep_whose_jobs_remove_a_group_reports_those_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for job, seed in enumerate(("0", "1")):
        (tmp_path / f"{job}/.hydra").mkdir(parents=True)
        (tmp_path / f"{job}/.hydra/overrides.yaml").write_text(f"- ~scheduler\n- seed={seed}\n")
    (tmp_path / "0/explainer").mkdir()
    (tmp_path / "0/explainer/config.json").write_text('{"metrics": {"val/loss": 0.25}}')
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with pytest.raises(SystemExit, match=r"1 of 2 jobs failed: \['1'\]"):
        SweepTable().on_multirun_end(config)
    table = rows(tmp_path / "sweep.csv")
    assert [row["~scheduler"] for row in table] == ["", ""]
    assert [(row["seed"], row["status"]) for row in table] == [("0", "done"), ("1", "failed")]
    assert table[0]["val/loss"] == "0.25"
    assert "0.2500" in capsys.readouterr().out


def test_a_sweep_runs_each_job_once_on_its_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The sweep is this process, its jobs are others: one on one device, one on two."""
    settings = [*tiny(tmp_path), "logger=csv"]
    settings += ["callbacks.panels=null", "data.test_size=1"]
    sweep = tmp_path / "sweep"
    command = ["-m", "trainer.devices=1,2", "prior.correlation=0.5", *settings]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run_here(monkeypatch, *command, "trainer.max_epochs=1", f"hydra.sweep.dir={sweep}")
    said = "".join(capfd.readouterr())
    assert sorted(path.name for path in sweep.iterdir() if path.is_dir()) == ["0", "1"]
    table = rows(sweep / "sweep.csv")
    assert [row["trainer.devices"] for row in table] == ["1", "2"]
    assert [row["status"] for row in table] == ["done", "done"]
    assert (sweep / "sweep.png").stat().st_size > 10_000
    for job in (0, 1):
        config = OmegaConf.load(sweep / str(job) / ".hydra/config.yaml")
        assert config.trainer.devices == job + 1
        assert config.prior.correlation == 0.5
        # 64 images, 16 a step over all devices: 4 steps, whatever the number of devices.
        last = torch.load(sweep / str(job) / "checkpoints/last.ckpt", weights_only=True)
        assert last["global_step"] == 4
        assert len([r for r in rows(sweep / str(job) / "metrics.csv") if r["val/loss"]]) == 1
    # The job on two devices initialised the only group of processes.
    assert said.count("All distributed processes registered") == 1
