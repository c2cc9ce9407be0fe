"""Parts of the work that several processes share, and that no two take one."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from saliency_vae.inference.partition import Locks, Partition


def test_parts_hold_each_batch_once_and_splitting_keeps_them() -> None:
    batches = range(23)
    for count in (1, 2, 5, 30):
        parts = Partition().split(count)
        assert sorted(batch for part in parts for batch in part.of(batches)) == list(batches)
        for part in parts:
            smaller = [batch for sub in part.split(3) for batch in sub.of(batches)]
            assert sorted(smaller) == list(part.of(batches))


@pytest.mark.parametrize(
    ("setting", "environment", "expected"),
    [
        (None, {}, ("1/1", "")),
        ("3/4", {"SLURM_ARRAY_TASK_ID": "9"}, ("3/4", "")),
        (None, {"SLURM_ARRAY_TASK_ID": "7", "COUNT": "4", "MIN": "1", "STEP": "2"}, ("4/4", "S")),
        (None, {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}, ("2/2", "t")),
        (None, {"RANK": "1", "WORLD_SIZE": "2"}, ("1/1", "")),  # of something else
        (
            None,
            {"SLURM_ARRAY_TASK_ID": "2", "COUNT": "3", "MIN": "0", "STEP": "1"}
            | {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"},
            ("6/6", "SLURM_ARRAY_TASK_ID and t"),
        ),
    ],
)
def test_the_environment_chooses_a_part(
    setting: str | None, environment: dict[str, str], expected: tuple[str, str]
) -> None:
    short = {"COUNT", "MIN", "STEP"}
    found = Partition.chosen(
        setting,
        {f"SLURM_ARRAY_TASK_{k}" if k in short else k: v for k, v in environment.items()},
    )
    assert str(found) == expected[0]
    assert found.origin.startswith(expected[1])
    assert bool(found.origin) == bool(expected[1])


@pytest.mark.parametrize("setting", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", ""])
def test_a_part_that_there_is_not_is_refused(setting: str) -> None:
    with pytest.raises(ValueError, match="Expected partition=K/N"):
        Partition.chosen(setting, {})


def test_an_array_with_gaps_is_refused() -> None:
    array = {"ID": "7", "COUNT": "3", "MIN": "1", "STEP": "1"}  # --array=1,5,7
    with pytest.raises(ValueError, match="Found job 7"):
        Partition.chosen(None, {f"SLURM_ARRAY_TASK_{key}": value for key, value in array.items()})


def in_a_process(call: Callable[[], object]) -> bool:
    """Whether a call in a forked process raises nothing."""
    child = os.fork()
    if not child:
        try:
            call()
        except ValueError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def test_each_part_is_taken_once_and_counts_are_not_mixed(tmp_path: Path) -> None:
    def take(*parts: Partition, alone: bool = False) -> None:
        with Locks.opened(tmp_path / "lock", tmp_path) as locks, locks.starting():
            locks.take(*parts, alone=alone)

    with Locks.opened(tmp_path / "lock", tmp_path) as locks:
        with locks.starting():
            locks.take(Partition(1, 4), alone=False)
        assert in_a_process(lambda: take(Partition(2, 4)))
        assert in_a_process(lambda: take(Partition(0, 4)))
        assert not in_a_process(lambda: take(Partition(1, 4)))
        assert not in_a_process(lambda: take(Partition(0, 4), alone=True))
        # A job of two with two devices is kept off its own parts alone.
        assert in_a_process(lambda: take(*Partition(0, 2).split(2)))
        assert not in_a_process(lambda: take(*Partition(1, 2).split(2)))
        for other in (Partition(), Partition(1, 3), Partition(1, 5)):
            assert not in_a_process(partial(take, other))
    assert in_a_process(lambda: take(Partition(0, 1), alone=True))
