"""A gallery of explanations: pages that open from disk and load nothing from elsewhere.

:func:`write_gallery` puts the entries' files together one by one, so that neither the number of
images nor an interrupted run matters.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.visualization.gallery_entry import read_fields
from saliency_vae.visualization.html_page import content_policy, load_template

PAGE = 500  # images on a page, as many as a browser scrolls well
_TEMPLATE = Path(__file__).parent / "templates/gallery.html"


def write_gallery(
    entries: Iterable[Path], directory: Path, *, title: str, description: Sequence[str] = ()
) -> Path:
    """Write ``index.html``, ``index_2.html`` and so on: 500 images a page, least sufficient first.

    Args:
        entries: Files written by :meth:`saliency_vae.visualization.gallery_entry.Entry.save`.
        directory: Directory of the pages, made if needed; panels are relative to it.
        title: Heading, plain text.
        description: Lines below the heading, plain text.

    Returns:
        Path of the first page.

    Raises:
        ValueError: If there is no entry, or a file is not an entry.
    """
    ranked = sorted((float(read_fields(path)["sufficiency"]), path) for path in entries)
    if not ranked:
        raise ValueError("Expected at least one explained image for a gallery. Found none.")
    pages = [ranked[start : start + PAGE] for start in range(0, len(ranked), PAGE)]
    template = load_template(_TEMPLATE)
    policy = content_policy(_TEMPLATE.read_text(encoding="utf-8"))
    for number in range(len(pages), 0, -1):  # the first page last: its links then lead somewhere
        text = template.generate(
            policy=policy,
            title=title,
            description=description,
            summary=_summary(number, len(ranked)),
            page=_page_name(number),
            pages=[_page_name(n) for n in range(1, len(pages) + 1)],
            entries=(_shown(path) for _, path in pages[number - 1]),
        )
        with (
            whole_file(directory / _page_name(number)) as partial,
            partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file,
        ):
            file.writelines(text)
    return directory / _page_name(1)


def _page_name(number: int) -> str:
    return "index.html" if number == 1 else f"index_{number}.html"


def _summary(number: int, images: int) -> str:
    first, last = (number - 1) * PAGE + 1, min(number * PAGE, images)
    if images <= PAGE:
        return "1 image" if images == 1 else f"{images} images"
    return f"Images {first:,} to {last:,} of {images:,}, from the least sufficient on"


def _shown(path: Path) -> dict[str, Any]:
    """Read an entry's fields as the page takes them: its panel as a link."""
    fields = read_fields(path)
    return fields | {"panel": quote(os.fsencode(fields["panel"]))}
