"""The printed summary of an explain command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from saliency_vae.runtime.text import same_command

_NAMED = 20  # broken images in the summary; broken.txt names all


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Summary of an explain command: what happened to the images.

    Attributes:
        partition: Partition that is reported; "" for all images.
        origin: Environment variables that the partition was derived from; "" if there are none.
        images: Number of images in the partition.
        explained: Number of these images that this command explained.
        earlier: Number of these images that an earlier command had explained.
        drawn: Number of images explained earlier whose panel or gallery entry was drawn now.
        broken: Images that could not be explained, with the reason, one per line.
        broken_list: File that lists the broken images; None until all partitions are finished.
        left: Number of images of all partitions that are still to be explained.
        overwrite: Whether the command discards earlier explanations.
        label_note: Names in the labels file that match no image, in a line; "" if there are none.
        refine_steps: Gradient steps that refine each explanation by itself.
        objective: Mean objective of an image before and after refinement; None without it.
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
                f"objective {first:.4f} -> {last:.4f} per image."
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
