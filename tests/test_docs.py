"""What the pages show is true of the code: links, commands, snippets, versions, results."""

import ast
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from saliency_vae.cli.arguments import added, check_arguments, quoted
from saliency_vae.cli.renamed import check_override
from saliency_vae.cli.schemas import register_schemas
from saliency_vae.cli.validation import config_dir, resolve
from saliency_vae.evaluation.verdicts import Comparison, Verdict
from tests.helpers.constructed_results import constructed, results, uncertainty
from tests.test_floors import COMMANDS, ORDER

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/RESULTS.md"])
RESULTS = runpy.run_path(str(ROOT / "docs/make_results.py"))
ROWS: dict[str, Any] = RESULTS["ROWS"]
PATHS = ("explainer", "image_only", "images", "output_dir")  # taken as they are typed
COMMAND = re.compile(r"-m saliency_vae\.(\w+)(.*)")


def commands(text: str) -> Iterator[tuple[str, ...]]:
    """Commands of a page with their settings, from blocks, tables and sentences."""
    for line in text.replace("\\\n", " ").splitlines():
        for code in re.findall(r"`[^`]*`", line) or [line]:
            for found in COMMAND.finditer(code.strip("`")):
                yield found[1], *settings(found[2])


def settings(arguments: str) -> list[str]:
    """Settings of a command line, of a sweep those of the first job; no comments, no shell."""
    plain = re.sub(r"\$\([^)]*\)", "", arguments).replace("$", "")
    words = shlex.split(plain, comments=True)
    if "-m" in words:
        words = [re.sub(r"^([^[]*?),.*", r"\1", word) for word in words]
    return [word for word in words if word not in ("-m", "--help")]


def compose_and_check(command: str, *overrides: str) -> None:
    """Do what a command does before its work; without settings, only compose."""
    overrides = tuple(added(quoted(override, PATHS)) for override in overrides)
    check_arguments(overrides)
    for override in overrides:
        check_override(override)
    runtime = "hydra.runtime.output_dir=/nowhere"
    config = compose(command, [*overrides, runtime], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    if overrides:
        resolve(config)


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hydra is started for the test and left as it was."""
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.setenv("IMAGENET_ROOT", "/data/imagenet")
    register_schemas()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        yield


SHOWN = sorted({command for page in PAGES for command in commands(page.read_text())})


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize("command", SHOWN, ids=" ".join)
def test_every_command_composes(command: tuple[str, ...]) -> None:
    compose_and_check(*command)


def test_commands_are_found_wherever_they_stand() -> None:
    text = (
        "```\npython -m saliency_vae.train a=1 \\\n    b=2  # comment\n```\n"
        "| row | `OMP_NUM_THREADS=1 python -m saliency_vae.train c=[1,2]` | `other` |\n"
        "by `python -m saliency_vae.export d=3` and `python -m saliency_vae.train -m e=1,2 f=[3,4]`"
    )
    assert list(commands(text)) == [
        ("train", "a=1", "b=2"),
        ("train", "c=[1,2]"),
        ("export", "d=3"),
        ("train", "e=1", "f=[3,4]"),
    ]


@pytest.mark.usefixtures("hydra")
def test_a_command_with_a_wrong_setting_is_found() -> None:
    with pytest.raises(Exception, match="beeta"):
        compose_and_check("train", "beeta=1")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    relative = [target for target in targets if not target.startswith("http")]
    for target in relative:
        file, _, heading = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.is_file(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert heading in {h.lower().replace(" ", "-") for h in headings}, target


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("snippet", snippets(ROOT / "README.md"))
def test_snippets_import_what_they_name(snippet: str) -> None:
    for node in ast.walk(ast.parse(snippet)):
        if isinstance(node, ast.ImportFrom):
            module = import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


def test_snippets_name_attributes_of_explainers_and_posteriors() -> None:
    from saliency_vae import Explainer
    from saliency_vae.distributions import DiagonalNormal

    owners = {"explainer": Explainer, "posterior": DiagonalNormal}
    found = {
        (node.value.id, node.attr)
        for snippet in snippets(ROOT / "README.md")
        for node in ast.walk(ast.parse(snippet))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    named = {(owner, attribute) for owner, attribute in found if owner in owners}
    assert len(named) >= 6
    for owner, attribute in named:
        known = hasattr(owners[owner], attribute) or attribute in {"confidence", "classifier"}
        assert known, f"{owner}.{attribute}"


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:saliency_vae|tests|conf|docs|benchmarks)/[^`]*)`", text)
    assert len(named) > 15
    for path in named:
        assert (ROOT / path).exists(), path


def test_contributing_lists_the_floors() -> None:
    rows = re.findall(r"^\| \d \| (.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    listed = [package for row in rows for package in re.findall(r"`(\w+)`", row)]
    commands, packages = listed[: len(COMMANDS)], listed[len(COMMANDS) :]
    assert set(commands) == COMMANDS
    assert packages[::-1] == [
        package for package in ORDER if package not in {*COMMANDS, "__main__"}
    ]


# ---- results


def test_every_row_of_make_results_stands_in_a_page_with_its_command() -> None:
    pages = [(ROOT / f"docs/{name}.md").read_text() for name in ("results_digits", "uncertainty")]
    text = "\n".join(pages)
    for name, row in ROWS.items():
        assert f"`{name}`" in text, name
        assert row.command in text, name  # where it is composed, see above


class Runner:
    """Takes the place of the commands: writes what they would."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, module: str, settings: list[str], threads: int) -> None:
        self.calls.append([module, *settings])
        (directory,) = (s.partition("=")[2] for s in settings if s.startswith("hydra.run.dir="))
        run = Path(directory)
        run.mkdir(parents=True, exist_ok=True)
        if module == "train":
            (run / "explainer").mkdir()
            (run / "explainer/config.json").write_text("{}")
            return
        metrics = [metric for names in RESULTS["SCORES"].values() for metric in names]
        scores = constructed({metric: {"explainer": 0.9874} for metric in metrics})
        comparison = Comparison(verdicts=(Verdict("better", "It is."),))
        results(scores, comparison=comparison, uncertainty=uncertainty()).save(run)
        (run / "report.html").write_text("")


def test_rows_are_made_once(tmp_path: Path) -> None:
    run = Runner()
    arguments = [f"--output={tmp_path}", "digits", "comparison"]
    RESULTS["main"](arguments, run)
    assert [call[0] for call in run.calls] == ["train", "evaluate", "evaluate", "evaluate"]
    assert f"explainer={tmp_path}/digits/explainer" in run.calls[-1]
    page = (tmp_path / "results.md").read_text()
    assert "## digits\n\n`python -m saliency_vae.train experiment=cluttered_digits`" in page
    assert "| pointing_game | iou |" in page
    assert "| .987 | .987 |" in page
    assert "| P(1-P) | explainer | ece | .500 | .400 | .600 |" in page
    assert "- better: It is." in page
    RESULTS["main"](arguments, run)
    assert len(run.calls) == 4


def test_an_interrupted_training_is_resumed(tmp_path: Path) -> None:
    run = Runner()
    (tmp_path / "paper/checkpoints").mkdir(parents=True)
    (tmp_path / "paper/checkpoints/last.ckpt").write_text("")
    RESULTS["main"]([f"--output={tmp_path}", "paper"], run)
    assert run.calls[0] == ["train", "ckpt_path=last", f"hydra.run.dir={tmp_path}/paper"]


def test_an_ensemble_is_trained_first(tmp_path: Path) -> None:
    run = Runner()
    RESULTS["main"]([f"--output={tmp_path}", "uncertainty"], run)
    trained = [call[1:] for call in run.calls if call[0] == "train"]
    assert len(trained) == 6
    assert trained[-1][:2] == ["experiment=cluttered_digits", "seed=5"]
    seeds = ",".join(f"{tmp_path}/digits-seed-{n}/explainer" for n in range(1, 6))
    assert f"ensemble=[{seeds}]" in run.calls[-1]


def test_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    RESULTS["main"](["--list"])
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)
    with pytest.raises(SystemExit):
        RESULTS["main"](["unknown"])
    assert "Found unknown." in capsys.readouterr().err


# ---- metadata


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "CITATION.cff"))
    assert citation["version"] == project["version"]
    released = f"## {project['version']} - {citation['date-released']}"
    assert released in (ROOT / "CHANGELOG.md").read_text()


def test_the_package_is_typed() -> None:
    assert (ROOT / "saliency_vae/py.typed").read_text() == ""
