"""Each wrong setting ends its command with one line, before anything long starts."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import OmegaConf
from PIL import Image

from saliency_vae.classifiers import digits as digit_classifier
from saliency_vae.cli.arguments import check_arguments
from saliency_vae.cli.validation import resolve
from saliency_vae.evaluate import evaluate
from saliency_vae.evaluation import pipeline as evaluation
from saliency_vae.explain import explain
from saliency_vae.export import export
from saliency_vae.inference.predict import BatchExplainer
from saliency_vae.train import train
from tests.faults.made import DIGITS, TRAIN, make_explainer

COMMANDS: dict[str, Callable[[], None]] = {
    "train": train,
    "files": train,
    "explain": explain,
    "evaluate": evaluate,
    "export": export,
}
OLD_EXPERIMENTS = {
    "ridge": "ridge: 0.3",
    "evidence": "defaults: [{override /encoder: conditional_unet}]\nencoder: {evidence: 0.2}",
    "informed_unet": "defaults: [{override /encoder: informed_unet}]",
}


def cases() -> Iterator[Any]:
    """Rows of the table."""
    table = Path(__file__).with_name("bad_settings.txt").read_text()
    for line in table.splitlines():
        if line and not line.startswith("#"):
            command, wrong, expected = (cell.strip() for cell in line.split(" | "))
            if "timm" in wrong and importlib.util.find_spec("timm") is None:
                continue
            yield pytest.param(command, wrong, expected, id=f"{command} {wrong}")


CASES = list(cases())


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with an explainer, and with images and files that do not suit the settings."""
    tmp = tmp_path_factory.mktemp("settings")
    for name, number in (("one", 1), ("two", 2), ("half/val", 1)):
        (tmp / name).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (32, 32)).save(tmp / name / f"{index}.png")
    for name in ("empty/class", "texts", "half/train/class"):
        (tmp / name).mkdir(parents=True)
    for name in ("texts/notes.txt", "text.png"):
        (tmp / name).write_text("not an image")
    (tmp / "old/experiment").mkdir(parents=True)
    for name, text in OLD_EXPERIMENTS.items():
        (tmp / f"old/experiment/{name}.yaml").write_text(f"# @package _global_\n{text}\n")
    make_explainer(tmp)
    return tmp


def arguments(command: str, tmp: Path) -> list[str]:
    """Right settings of a command."""
    common = {
        "train": [*TRAIN, f"classifier.path={tmp}/new.safetensors", "logger=csv"],
        "files": ["data=image_folder", f"data.root={tmp}/two", "logger=csv"],
        "explain": [f"explainer={tmp}/explainer", f"images={tmp}/two", f"output_dir={tmp}/out"],
        "evaluate": [f"explainer={tmp}/explainer", *DIGITS],
        "export": [f"explainer={tmp}/explainer"],
    }[command]
    return (
        [*common, f"hydra.run.dir={tmp}/run"]
        if command in ("train", "files", "evaluate")
        else common
    )


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the test fail if anything long starts or the network is used."""
    for owner, name in (
        (digit_classifier, "_train"),
        (torch.hub, "load_state_dict_from_url"),
        (huggingface_hub, "hf_hub_download"),
        (Trainer, "fit"),
        (BatchExplainer, "__call__"),
        (evaluation, "measure"),
        (torch.onnx, "export"),
    ):
        monkeypatch.setattr(owner, name, lambda *_, name=name, **__: pytest.fail(f"{name} started"))
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


def error_of(command: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "argv", [f"{command}.py", *given])
    with pytest.raises(SystemExit) as ended:
        COMMANDS[command]()
    assert isinstance(ended.value.code, str), ended.value.code  # printed, with status 1
    return ended.value.code


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(("command", "wrong", "expected"), CASES)
def test_a_wrong_setting_is_one_line(
    command: str, wrong: str, expected: str, tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = wrong.replace("{tmp}", str(tmp)).split()
    message = error_of(command, [*arguments(command, tmp), *given], monkeypatch)
    assert message.startswith("error: ")
    assert "\n" not in message
    rest = message
    for part in expected.replace("{tmp}", str(tmp)).split("..."):
        assert part.strip() in rest, message
        rest = rest.partition(part.strip())[2]


def test_the_table_is_what_was_asked_for() -> None:
    assert len(CASES) > 90
    assert {case.values[0] for case in CASES} == set(COMMANDS)


def test_right_settings_start(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table would be void if its commands refused everything."""
    started: list[str] = []

    def start(*_: object, **__: object) -> None:
        started.append("fit")
        raise SystemExit("error: enough")

    monkeypatch.setattr(Trainer, "fit", start)
    given = [*arguments("train", tmp), f"classifier.path={tmp}/digits.safetensors"]
    assert error_of("train", given, monkeypatch) == "error: enough"
    assert started == ["fit"]


def test_arguments_of_ones_own_are_ones_own() -> None:
    config = OmegaConf.create(
        {"classifier": {"arguments": {"seed": -1, "most": float("inf")}}, "seed": 3}
    )
    assert resolve(config)["classifier"]["arguments"]["most"] == float("inf")
    with pytest.raises(ValueError, match=r"0 <= classifier\.seed < 2"):
        resolve(OmegaConf.create({"classifier": {"seed": -1}}))


@pytest.mark.parametrize("error", [OSError("unreachable"), OSError(5, "broken", "/elsewhere/x")])
def test_an_error_of_no_path_of_the_settings_stays_as_it_is(
    error: OSError, tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("saliency_vae.inference.job.load_explainer", refuse)
    monkeypatch.chdir(tmp)
    given = [*arguments("explain", tmp)[:2], "output_dir=out"]
    found = error_of("explain", given, monkeypatch)
    assert found == f"error: {error}" or "be able to use /elsewhere/x. Found: broken." in found
    assert "output_dir" not in found


@pytest.mark.parametrize("override", ["experiment=2026_mine", "prior=rbf,matern32", "logger=[csv]"])
def test_any_name_of_an_option_is_left_to_hydra(override: str) -> None:
    check_arguments([override])


def test_gpus_that_are_not_there(
    tmp: Path, monkeypatch: pytest.MonkeyPatch, nothing_starts: None
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    given = [*arguments("train", tmp), "trainer.accelerator=gpu"]
    assert "trainer.accelerator=auto or cpu" in error_of("train", given, monkeypatch)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    given[-1] = "trainer.accelerator=auto"
    message = error_of("train", [*given, "trainer.devices=[0,1,2]"], monkeypatch)
    assert "1 <= trainer.devices <= 2, as many as this machine has. Found [0, 1, 2]." in message


def test_a_traceback_where_it_is_asked_for(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments("train", tmp), "optimizer.lr=0"])
    with pytest.raises(ValueError, match=r"optimizer\.lr > 0"):
        train()


def test_from_the_command_line(tmp: Path) -> None:
    """Users see the line alone, and a status, also once Lightning is loaded."""
    wrong = [f"classifier.path={tmp}/digits.safetensors", "trainer.devices=4096"]
    ended = subprocess.run(
        [sys.executable, "-m", "saliency_vae.train", *arguments("train", tmp), *wrong],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: Expected ")
    assert line.endswith("Found 4096.")
