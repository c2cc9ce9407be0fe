"""The settings of an earlier run, put before those of the command that resumes it."""

from pathlib import Path

import pytest
import torch

from saliency_vae.cli.resumed_overrides import with_overrides_of_run

OVERRIDES = [
    "experiment=cluttered_digits",
    "prior.correlation=0.5",
    "+trainer.max_steps=3",
    "encoder.channels=[4,8]",
    "~scheduler",
]


def save(run: Path, overrides: list[str]) -> None:
    """Save a checkpoint with what is read of it here."""
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
    given += ["trainer.max_steps=9", "experiment=mine", "scheduler=constant"]
    assert with_overrides_of_run(given) == ["encoder.channels=[4,8]", *given]


def test_a_run_killed_before_its_first_checkpoint_starts_anew(run: Path) -> None:
    (run / "checkpoints/last.ckpt").unlink()
    arguments = with_overrides_of_run(["ckpt_path=last", f"hydra.run.dir={run}", "logger=csv"])
    assert "experiment=cluttered_digits" in arguments
    assert arguments[-2:] == [f"hydra.run.dir={run}", "logger=csv"]
    assert "ckpt_path=last" not in arguments


def test_a_mistyped_directory_is_no_run_the_second_time_either(tmp_path: Path) -> None:
    given = ["ckpt_path=last", f"hydra.run.dir={tmp_path}"]
    assert with_overrides_of_run(given) == given  # refused, as there is no checkpoint
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/overrides.yaml").write_text("- ckpt_path=last\n")  # Hydra's record of it
    assert with_overrides_of_run(given) == given


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


def test_old_names_in_a_run_are_translated_and_what_is_given_now_wins(run: Path) -> None:
    old = ["ridge=0.3", "encoder=informed_unet", "++encoder.evidence=0.1", "beta=0.2"]
    save(run, old)
    given = ["ckpt_path=last", f"hydra.run.dir={run}"]
    new = ["mean_penalty=0.3", "encoder=conditional_unet", "++encoder.prior_mean_scale=0.1"]
    assert with_overrides_of_run(given) == [*new, "beta=0.2", *given]
    given.append("mean_penalty=0.5")
    assert with_overrides_of_run(given) == [*new[1:], "beta=0.2", *given]
    (run / "checkpoints/last.ckpt").unlink()
    (run / ".hydra/overrides.yaml").write_text("".join(f"- {text}\n" for text in old))
    assert with_overrides_of_run(given)[:3] == [*new[1:], "beta=0.2"]
