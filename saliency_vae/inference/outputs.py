"""The files of explained images, and the directory that they are written to."""

import errno
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saliency_vae.inference.image_files import BrokenImage
from saliency_vae.runtime.atomic_file import whole_file, write_whole
from saliency_vae.runtime.text import printable
from saliency_vae.visualization import Entry, Explanation, arrays, draw_panel

_PANEL = ".panel.png"
# Errors that the name of an image causes: too long, unknown characters, a file where another
# image's name needs a directory, or the other way round.
_NAME_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


@dataclass(frozen=True)
class Outputs:
    """The files of explained images, below one directory.

    Attributes:
        directory: Directory that holds all of them.
    """

    directory: Path

    @property
    def gallery(self) -> Path:
        """Directory of the gallery's entries."""
        return self.directory / ".gallery"

    @property
    def broken(self) -> Path:
        """List of the images that could not be explained."""
        return self.directory / "broken.txt"

    def npz(self, name: str) -> Path:
        """File of an image's maps and predictions."""
        return self.directory / f"{name}.npz"

    def panel(self, name: str) -> Path:
        """Picture of an image's explanation."""
        return self.directory / f"{name}{_PANEL}"

    def entry(self, name: str) -> Path:
        """Entry of an image in the gallery; written last, so that it marks a finished image."""
        return self.gallery / f"{name}.json"

    def done(self, name: str) -> bool:
        """Whether an image has all of its files."""
        return all(path(name).is_file() for path in (self.entry, self.npz, self.panel))

    def entries(self) -> list[Path]:
        """Find the entries of all images that have been explained."""
        return [path for path in self.gallery.rglob("*.json") if path.is_file()]

    def claim(self, settings: Mapping[str, Any], names: Iterable[str], *, overwrite: bool) -> None:
        """Record what the explanations depend on, so that different ones are not mixed.

        Args:
            settings: What the explanations depend on, plain values.
            names: Names of the images to explain.
            overwrite: Forget that these images have been explained, and all images that were
                explained with different settings.

        Raises:
            ValueError: If explanations with different settings are not to be overwritten.
        """
        path = self.gallery / "settings"
        earlier = json.loads(path.read_text()) if path.is_file() else settings
        differing = [key for key in settings if earlier.get(key) != settings[key]]
        if differing and not overwrite:
            raise ValueError(
                f"Expected output_dir={self.directory} to be new or made with the same settings. "
                f"Found another {', '.join(differing)}: overwrite=true, or another output_dir."
            )
        if differing:
            shutil.rmtree(self.gallery)
        if overwrite:
            for name in names:
                self.entry(name).unlink(missing_ok=True)
        write_whole(path, json.dumps(settings))

    def save(self, explanation: Explanation) -> BrokenImage | None:
        """Write the files of an explanation.

        Returns:
            The image as broken, if its name cannot be that of a file here.
        """
        name = explanation.source.name
        try:
            for path in (self.npz(name), self.entry(name)):
                path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.npz(name)) as partial, partial.open("wb") as file:
                np.savez_compressed(file, **arrays(explanation))
            with whole_file(self.panel(name)) as partial:
                draw_panel(explanation).save(partial, format="PNG", compress_level=1)
            Entry.of(explanation, panel=f"{name}{_PANEL}").save(self.entry(name))
        except OSError as error:
            if error.errno not in _NAME_ERRORS:
                raise
            return BrokenImage.because(name, error.__cause__ or error)
        return None

    def list_broken(self, images: Sequence[BrokenImage]) -> list[str]:
        """Write the list of broken images, one a line; none is written where none is broken."""
        self.broken.unlink(missing_ok=True)
        lines = [printable(f"{image.name}: {image.reason}") for image in images]
        if lines:
            self.broken.write_text("\n".join([*lines, ""]), encoding="utf-8")
        return lines


def is_panel(file: Path) -> bool:
    """Whether a file is a panel of an earlier explanation, beside its .npz, and no input image."""
    name = file.name.removesuffix(_PANEL)
    return name != file.name and file.with_name(f"{name}.npz").is_file()
