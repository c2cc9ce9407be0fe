"""Partitions of the work among processes, and the locks that keep the processes apart."""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Partition:
    """Every ``count``-th batch of the work, starting with batch ``number``.

    The images are divided into batches first, so that a batch is the same whatever the count.

    Attributes:
        number: Number of the partition, from 0.
        count: Number of partitions.
        origin: Environment variables it was derived from; "" if it was set explicitly.

    Example:
        >>> Partition(1, 3).of(range(10))
        range(1, 10, 3)
    """

    number: int = 0
    count: int = 1
    origin: str = ""

    def __str__(self) -> str:
        """Write it as in the setting, ``K/N`` with K from 1."""
        return f"{self.number + 1}/{self.count}"

    def of(self, batches: Sequence[T]) -> Sequence[T]:
        """Select the batches of this partition."""
        return batches[self.number :: self.count]

    def split(self, count: int, origin: str = "") -> list["Partition"]:
        """Divide this partition among several processes.

        Example:
            >>> [str(part) for part in Partition(1, 3).split(2)]
            ['2/6', '5/6']
        """
        origins = " and ".join(filter(None, (self.origin, origin)))
        return [
            Partition(self.number + number * self.count, self.count * count, origins)
            for number in range(count)
        ]

    @classmethod
    def chosen(cls, setting: str | None, environment: Mapping[str, str] = os.environ) -> Self:
        """Find the partition of this process.

        Args:
            setting: ``K/N``, the K-th of N; None to derive it from SLURM job arrays and torchrun.
            environment: Environment variables.

        Raises:
            ValueError: If there is no such partition.
        """
        if setting is not None:
            found = re.fullmatch(r"(\d+)/(\d+)", setting)
            if not found or not 1 <= int(found[1]) <= int(found[2]):
                raise ValueError(
                    f"Expected partition=K/N with 1 <= K <= N, such as 2/4. Found {setting}."
                )
            return cls(int(found[1]) - 1, int(found[2]))
        whole = Partition()
        if "SLURM_ARRAY_TASK_ID" in environment:
            task, first, step, count = (
                int(environment.get(f"SLURM_ARRAY_TASK_{key}", default))
                for key, default in (("ID", "0"), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
            )
            number, rest = divmod(task - first, step)
            if rest or not 0 <= number < count:
                raise ValueError(
                    "Expected an array of jobs with numbers in equal steps, such as --array=1-100. "
                    f"Found job {task}, the first {first} and {count} jobs: set partition=K/N."
                )
            whole = whole.split(count, "SLURM_ARRAY_TASK_ID")[number]
        if "TORCHELASTIC_RUN_ID" in environment:
            rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
            whole = whole.split(size, "torchrun's RANK")[rank]
        return cls(whole.number, whole.count, whole.origin if whole.count > 1 else "")


class Locks:
    """Locks of the processes that work on one directory, each on a byte of one file.

    They are POSIX locks: they are released when their process ends in any way, are not inherited
    by child processes, and work across machines on a shared file system. Byte 0 guards starting,
    byte 1 guards work that one process does at a time, and every other byte guards a partition.

    Args:
        descriptor: Descriptor of the file.
        directory: Directory to name in messages.
    """

    def __init__(self, descriptor: int, directory: Path) -> None:
        self._descriptor, self._directory = descriptor, directory

    @classmethod
    @contextmanager
    def opened(cls, path: Path, directory: Path) -> Iterator[Self]:
        """Open the lock file, which is made if needed, and release all locks at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            yield cls(file.fileno(), directory)

    def take(self, *parts: Partition, alone: bool) -> None:
        """Lock partitions until the lock file is closed.

        Args:
            parts: Partitions to lock, one for each device, all with the same count.
            alone: Whether to refuse other processes on any other partition too.

        Raises:
            ValueError: If another process works on one of these partitions, or on a partition
                with another count.
        """
        count = parts[0].count
        first = 2 + count * (count - 1) // 2
        others = ((2, 0),) if alone else ((2, first), (first + count, 0))
        own = (first + part.number for part in parts)
        if not (self._free(*others) and all(self._lock(b, b + 1, fcntl.LOCK_NB) for b in own)):
            like = f"K/{count // len(parts)}" + (" with as many devices" if len(parts) > 1 else "")
            raise ValueError(
                f"Expected no other process to write to {self._directory} than those of other "
                f"partitions {like}. Found one: wait for it to end, or start all "
                "with partition=1/2 and partition=2/2, for example."
            )

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Wait until no other process is starting, and let others wait during the block."""
        with self._held(0):
            yield

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Wait until no other process is in this block."""
        with self._held(1):
            yield

    @contextmanager
    def _held(self, byte: int) -> Iterator[None]:
        self._lock(byte, byte + 1)
        try:
            yield
        finally:
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, byte)

    def _free(self, *ranges: tuple[int, int]) -> bool:
        """Whether no other process holds a byte in ranges (start, end); end 0 means no limit."""
        for start, end in ranges:
            if start == end:
                continue
            if not self._lock(start, end, fcntl.LOCK_NB):
                return False
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, max(0, end - start), start)
        return True

    def _lock(self, start: int, end: int, flags: int = 0) -> bool:
        """Lock bytes; False if another process holds one and ``flags`` say not to wait."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | flags, max(0, end - start), start)
        except (BlockingIOError, PermissionError):
            return False
        return True
