"""What became of the images, as it is printed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saliency_vae.runtime.text import same_command

_NAMED = 20  # broken images in the summary; broken.txt names all


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What became of the images.

    Attributes:
        partition: Partition of the images that is told of; "" for all of them.
        origin: Environment variables that the partition follows from; "" without.
        images: Number of its images.
        explained: Number of its images that have been explained now.
        earlier: Number of images that an earlier run had explained.
        drawn: Number of images explained earlier whose panel or place in the gallery was drawn now.
        broken: Images that could not be explained, with the reason, one a line.
        broken_list: File that lists the broken images; None until all partitions are finished.
        left: Images of all partitions that none has finished yet.
        overwrite: Whether the command forgets what has been explained.
        label_note: Names in the labels file that match no image, in a line; "" if there are none.
        refine_steps: Gradient steps on each explanation by itself.
        objective: Mean objective before and after refinement, nats per image; None without it.
        found_at: First page of the gallery, or without one the directory of the explanations; None
            if nothing has been explained.
    """

    partition: str
    origin: str
    images: int
    explained: int
    earlier: int
    drawn: int
    broken: Sequence[str]
    broken_list: Path | None
    left: int
    overwrite: bool
    label_note: str
    refine_steps: int
    objective: Sequence[float] | None
    found_at: Path | None

    def __str__(self) -> str:
        """Write the summary as it is printed."""
        origin = f", of {self.origin}" if self.origin else ""
        start = f"Partition {self.partition}{origin}: " if self.partition else ""
        before = f", {self.earlier} had been explained before" if self.earlier else ""
        drawn = f" ({self.drawn} of them drawn now)" if self.drawn else ""
        lines = [f"{start}{self.explained} of {self.images} images explained{before}{drawn}."]
        if self.objective is not None:
            first, last = self.objective
            lines.append(
                f"Refined in {self.refine_steps} steps: "
                f"objective {first:.4f} -> {last:.4f} nats per image."
            )
        if self.broken:
            where = "" if self.broken_list is None else f" (all in {self.broken_list})"
            lines.append(f"{len(self.broken)} could not be explained{where}:")
            lines += [f"  {line}" for line in self.broken[:_NAMED]]
        if self.left:
            again = same_command(overwrite=self.overwrite)
            lines.append(
                f"{self.left} images are left to other partitions; the last to finish writes the "
                f"gallery. With partition=1/1 {again} explains all that is left."
            )
        if self.label_note:
            lines.append(self.label_note)
        if self.found_at is not None:
            lines.append(str(self.found_at))
        return "\n".join(lines)
