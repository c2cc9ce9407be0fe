"""Going on with an earlier run."""

from pathlib import Path

import pytest
import torch

from saliency_vae.training.resume import checkpoint_path, with_overrides_of_run

OVERRIDES = [
    "experiment=cluttered_digits",
    "prior.correlation=0.5",
    "+trainer.max_steps=3",
    "encoder.channels=[4,8]",
    "~scheduler",
]


def save(run: Path, overrides: list[str]) -> None:
    """A checkpoint as far as it is read here."""
    checkpoint = {"state_dict": {}, "classifier": {}, "explainer": {}, "overrides": overrides}
    torch.save(checkpoint, run / "checkpoints/last.ckpt")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("".join(f"- {text}\n" for text in OVERRIDES))
    (tmp_path / "checkpoints").mkdir()
    save(tmp_path, OVERRIDES)
    return tmp_path


def test_the_runs_own_overrides_come_first(run: Path) -> None:
    given = ["ckpt_path=last", f"hydra.run.dir={run}", "logger=csv"]
    assert with_overrides_of_run(given) == [*OVERRIDES, *given]


def test_a_refused_command_leaves_the_run_as_it_was(run: Path) -> None:
    given = ["ckpt_path=last", f"hydra.run.dir={run}"]
    (run / ".hydra/overrides.yaml").write_text("- experiment=mine\n")  # Hydra writes it first
    assert with_overrides_of_run(given) == [*OVERRIDES, *given]


def test_a_checkpoint_that_cannot_be_read_is_left_to_the_command(run: Path) -> None:
    (run / "checkpoints/last.ckpt").write_text("mine")
    given = ["ckpt_path=last", f"hydra.run.dir={run}"]
    assert with_overrides_of_run(given) == [*OVERRIDES, *given]


def test_what_is_given_now_wins(run: Path) -> None:
    given = [f"hydra.run.dir={run}", "prior.correlation=0.9", "ckpt_path=last"]
    given += ["+trainer.max_steps=9", "experiment=mine"]
    assert with_overrides_of_run(given) == ["encoder.channels=[4,8]", "~scheduler", *given]


def test_a_run_killed_before_its_first_checkpoint_starts_anew(run: Path) -> None:
    (run / "checkpoints/last.ckpt").unlink()
    arguments = with_overrides_of_run(["ckpt_path=last", f"hydra.run.dir={run}", "logger=csv"])
    assert "experiment=cluttered_digits" in arguments
    assert arguments[-2:] == [f"hydra.run.dir={run}", "logger=csv"]
    assert "ckpt_path=last" not in arguments


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quoted_directory(run: Path, quote: str) -> None:
    given = ["ckpt_path=last", f"hydra.run.dir={quote}{run}{quote}"]
    assert "experiment=cluttered_digits" in with_overrides_of_run(given)


def test_a_run_that_was_resumed_before_can_be_resumed_again(run: Path) -> None:
    given = ["ckpt_path=last", f"hydra.run.dir={run}"]
    once = with_overrides_of_run(given)
    save(run, [text for text in once if "hydra" not in text])
    assert sorted(with_overrides_of_run(given)) == sorted(once)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["experiment=cluttered_digits"],
        ["hydra.run.dir={run}"],  # a new run in an old directory
        ["ckpt_path=last"],
        ["ckpt_path={run}/checkpoints/last.ckpt", "hydra.run.dir={run}"],
        ["ckpt_path=last", "hydra.run.dir={run}/elsewhere"],
        ["-m", "prior.correlation=0.5,0.9"],
        ["--help"],
        ["--config-dir=conf", "~scheduler"],
    ],
)
def test_other_arguments_stay_as_they_are(run: Path, arguments: list[str]) -> None:
    arguments = [text.replace("{run}", str(run)) for text in arguments]
    assert with_overrides_of_run(list(arguments)) == arguments


def test_no_checkpoint_asked_for(tmp_path: Path) -> None:
    assert checkpoint_path(None, tmp_path) is None


def test_the_runs_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/last.ckpt"
    path.parent.mkdir()
    path.touch()
    assert checkpoint_path("last", tmp_path) == path


def test_a_checkpoint_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    path.touch()
    assert checkpoint_path(str(path), tmp_path / "run") == path


def test_a_missing_last_checkpoint_says_how_to_name_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ckpt_path=last") as error:
        checkpoint_path("last", tmp_path)
    assert str(tmp_path / "checkpoints/last.ckpt") in str(error.value)
    assert "hydra.run.dir" in str(error.value)


def test_a_missing_file_or_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.ckpt", tmp_path):
        with pytest.raises(ValueError, match=f"Not found: {path}") as error:
            checkpoint_path(str(path), tmp_path)
        assert "hydra.run.dir" not in str(error.value)
