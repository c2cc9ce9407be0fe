"""The files of explained images, and the directory that they are written to."""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.inference.partition import Locks, Partition
from saliency_vae.inference.store import DIRECTORY, Index, Store, StoredExplanation
from saliency_vae.runtime.atomic_file import whole_file, write_whole
from saliency_vae.runtime.text import printable
from saliency_vae.visualization import (
    Entry,
    Explanation,
    arrays,
    draw_panel,
    remove_pages,
)

_PANEL = ".panel.jpg"
_COMMENT = b"panel of saliency_vae"  # in a panel, so that it is not taken for an image to explain
# Errors that the name of an image causes: too long, unknown characters, a file where another
# image's name needs a directory, or the other way round.
NAME_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@dataclass(frozen=True)
class Outputs:
    """The files of explained images, below one directory.

    Attributes:
        directory: Directory that holds all of them.
        panels: Names of the images that get a panel.
        npz: Whether each image gets an .npz of its own.
        gallery: Whether the images get an entry in the gallery.
    """

    directory: Path
    panels: frozenset[str] = frozenset()
    npz: bool = False
    gallery: bool = True

    @property
    def store(self) -> Store:
        """All explanations, one file per batch, written last to mark the batch as finished."""
        return Store(self.directory / DIRECTORY)

    @property
    def broken_list(self) -> Path:
        """List of the images that could not be explained."""
        return self.directory / "broken.txt"

    def npz_file(self, name: str) -> Path:
        """File of an image's maps and predictions."""
        return self.directory / f"{name}.npz"

    def panel_file(self, name: str) -> Path:
        """Picture of an image's explanation."""
        return self.directory / f"{name}{_PANEL}"

    def done(self, name: str, index: Index) -> bool:
        """Whether an image has all its outputs."""
        return self._explained(name, index) and not self._lacks_picture(name, index)

    def undrawn(self, name: str, index: Index) -> bool:
        """Whether an image lacks its panel or gallery entry, but has all other outputs."""
        return self._explained(name, index) and self._lacks_picture(name, index)

    def _explained(self, name: str, index: Index) -> bool:
        return name in index.places and (not self.npz or self.npz_file(name).is_file())

    def _lacks_picture(self, name: str, index: Index) -> bool:
        return self.lacks_panel(name) or (self.gallery and index.places[name].entry is None)

    def lacks_panel(self, name: str) -> bool:
        """Whether an image should have a panel but has none."""
        return name in self.panels and not self.panel_file(name).is_file()

    def locks(self) -> AbstractContextManager[Locks]:
        """Open the locks of the processes that write to the directory."""
        return Locks.opened(self.store.directory / "lock", self.directory)

    @contextmanager
    def taken(
        self,
        parts: Sequence[Partition],
        settings: Mapping[str, Any],
        names: Iterable[str],
        *,
        overwrite: bool,
    ) -> Iterator[None]:
        """Lock partitions of the images, and record the settings of the explanations.

        Args:
            parts: Partitions to lock against other processes, one for each device.
            settings: Settings that the explanations depend on, plain values. Explanations with
                different settings are never mixed.
            names: Names of the partitions' images.
            overwrite: Delete the explanations of these images, or all explanations if they were
                made with different settings.

        Raises:
            ValueError: If another process works on one of them, or if there are explanations with
                different settings and overwrite is False.
        """
        path = self.store.directory / "settings.json"
        with self.locks() as locks:
            with locks.starting():
                different = _different(path, settings)
                # Settings without explanations are left over from a first, mistaken command.
                explained = self.store.index().places.keys() if different or overwrite else set()
                if different and not overwrite and explained:
                    raise ValueError(
                        f"Expected output_dir={self.directory} to be new or made with the same "
                        f"settings. Found another {', '.join(different)}: another output_dir, or "
                        f"overwrite=true, which deletes its {len(explained)} explanations."
                    )
                locks.take(*parts, alone=bool(different))
                if different:
                    self._forget_files(explained)
                    self.store.clear()
                    if explained:
                        remove_pages(self.directory)
                elif overwrite:
                    self._forget_files(explained & set(names))
                    self.store.forget(names)
                write_whole(path, json.dumps(settings))
            yield

    def _forget_files(self, names: Iterable[str]) -> None:
        """Remove the panel and the .npz of images that have been explained, if there are any."""
        for name in names:
            self.panel_file(name).unlink(missing_ok=True)
            self.npz_file(name).unlink(missing_ok=True)

    def save(
        self, explanations: Sequence[Explanation], broken: Sequence[BrokenImage]
    ) -> list[BrokenImage]:
        """Write the files of a batch.

        Args:
            explanations: Explanations of the batch.
            broken: Images of the batch that could not be explained.

        Returns:
            All broken images, including those whose name cannot be a file name here.
        """
        found, broken = [], list(broken)
        for explanation in explanations:
            name = explanation.source.name
            stored = self.stored(explanation)
            try:
                if name in self.panels:
                    self.draw(explanation)
                if self.npz:
                    with whole_file(self.npz_file(name)) as partial, partial.open("wb") as file:
                        np.savez(file, allow_pickle=False, **stored.restored())
            except OSError as error:
                if error.errno not in NAME_ERRORS:
                    raise
                broken.append(BrokenImage.because(name, error.__cause__ or error))
            else:
                found.append(stored)
        self.store.write(found, broken)
        return broken

    def draw(self, explanation: Explanation) -> None:
        """Draw the panel of an image."""
        with whole_file(self.panel_file(explanation.source.name)) as partial:
            draw_panel(explanation).save(
                partial, "JPEG", quality=90, subsampling=0, comment=_COMMENT
            )

    def stored(self, explanation: Explanation) -> StoredExplanation:
        """Convert an explanation to the form in which it is stored."""
        source = explanation.source
        return StoredExplanation(
            name=source.name,
            size=source.size,
            preprocessing=source.preprocessing,
            values=arrays(explanation),
            entry=self.entry(explanation) if self.gallery else None,
            sufficiency=explanation.sufficiency,
            checksum=source.checksum,
        )

    def entry(self, explanation: Explanation) -> str:
        """Make the gallery entry of an image, as JSON."""
        original, file = explanation.source.original, ""
        if isinstance(original, Path):
            # The directory may be a link, through which a relative path would lead elsewhere.
            file = os.path.relpath(original.resolve(), self.directory.resolve())
        return Entry.of(explanation, file=file).to_json()

    def panel_link(self, name: str) -> str:
        """Path of an image's panel relative to the directory; empty if there is none."""
        return f"{name}{_PANEL}" if self.panel_file(name).is_file() else ""

    def list_broken(self, images: Iterable[BrokenImage]) -> None:
        """Write the list of broken images, one per line; remove it if none is broken."""
        lines = [f"{line_of(image)}\n" for image in images]
        if lines:
            write_whole(self.broken_list, "".join(lines))
        else:
            self.broken_list.unlink(missing_ok=True)


def line_of(image: BrokenImage) -> str:
    """Write in one line which image is broken, and why."""
    return printable(f"{image.name}: {image.reason}")


def is_panel(file: Path) -> bool:
    """Whether a file is a panel of an earlier explanation, not an image to explain."""
    if not file.name.endswith(_PANEL):
        return False
    try:
        with Image.open(file, formats=["JPEG"]) as image:
            return image.info.get("comment") == _COMMENT
    except OSError:
        return False


def _different(path: Path, settings: Mapping[str, Any]) -> list[str]:
    """Names of the settings that differ from those recorded in a file, if there is one."""
    earlier = json.loads(path.read_text()) if path.is_file() else settings
    # An earlier version recorded fewer settings.
    return [key for key in settings if key in earlier and earlier[key] != settings[key]]
