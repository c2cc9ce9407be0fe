"""A gallery of explanations: pages that open from disk and load nothing from elsewhere.

:func:`write_gallery` reads the entries as it writes them, so that at most one page is in memory,
however many images there are.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from saliency_vae.runtime.atomic_file import whole_file
from saliency_vae.runtime.text import as_percent
from saliency_vae.visualization.html_page import content_policy, load_template

PAGE = 200  # images per page: a few megabytes, which open at once
_BROKEN = 200  # most broken images listed
_TEMPLATE = Path(__file__).parent / "templates/gallery.html"

ReadEntry = Callable[[], str]  # returns what Entry.to_json wrote


def write_gallery(
    entries: Iterable[tuple[float, ReadEntry]],
    directory: Path,
    *,
    title: str,
    label: Callable[[str], str] = lambda name: "",
    panel: Callable[[str], str] = lambda name: "",
    broken: Sequence[str] = (),
) -> Path:
    """Write ``index.html``, ``index_2.html`` and so on: 200 images a page, least sufficient first.

    Args:
        entries: Sufficiency of each image, and a function that reads its entry as JSON.
        directory: Directory of the pages, made if needed.
        title: Heading, plain text.
        label: Function from an image's name to its true class, as the classifier names it;
            ``""`` if unknown.
        panel: Function from an image's name to the path of its panel, relative to the directory;
            ``""`` if there is none.
        broken: Images that could not be explained and why, one per line, for the first page.

    Returns:
        Path of the first page; further pages of an earlier gallery are removed.

    Raises:
        ValueError: If there is no entry.
    """
    ranked = sorted(entries, key=lambda entry: entry[0])
    if not ranked:
        raise ValueError("Expected at least one explained image for a gallery. Found none.")
    pages = [ranked[start : start + PAGE] for start in range(0, len(ranked), PAGE)]
    template = load_template(_TEMPLATE)
    # Besides what it contains, a page may load the images themselves.
    policy = content_policy(_TEMPLATE.read_text(encoding="utf-8"), images="'self' file:")
    for number in range(len(pages), 0, -1):  # the first page last, so that its links work
        text = template.generate(
            policy=policy,
            title=title,
            summary=_summary(number, len(ranked)),
            page=number,
            pages=[(n, page_name(n)) for n in _linked(number, len(pages))],
            entries=(_shown(read, label, panel) for _, read in pages[number - 1]),
            broken=broken[:_BROKEN] if number == 1 else (),
            more_broken=max(0, len(broken) - _BROKEN),
        )
        _write(directory / page_name(number), text)
    remove_pages(directory, after=len(pages))
    return directory / page_name(1)


def _write(path: Path, text: Iterable[str]) -> None:
    with (
        whole_file(path) as partial,
        partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file,
    ):
        file.writelines(text)


def remove_pages(directory: Path, after: int = 0) -> None:
    """Remove the pages of an earlier gallery from page ``after + 1`` on."""
    number = after + 1
    while (left := directory / page_name(number)).is_file():
        left.unlink()
        number += 1


def page_name(number: int) -> str:
    """Name the file of a page, counted from 1."""
    return "index.html" if number == 1 else f"index_{number}.html"


def _linked(page: int, pages: int) -> list[int]:
    """Pages that a page links to: the first, the last, those near it and every hundredth."""
    near = range(page - 3, page + 4)
    return [n for n in range(1, pages + 1) if n in (1, pages) or n in near or n % 100 == 0]


def _summary(number: int, images: int) -> str:
    first, last = (number - 1) * PAGE + 1, min(number * PAGE, images)
    if images <= PAGE:
        return "1 image" if images == 1 else f"{images} images"
    return f"Images {first:,} to {last:,} of {images:,}, from the least sufficient on"


def _shown(
    read: ReadEntry, label: Callable[[str], str], panel: Callable[[str], str]
) -> dict[str, Any]:
    """Read an entry's fields, and add what the page shows: links, percentages and the label."""
    fields: dict[str, Any] = json.loads(read())
    name = fields["name"]
    links = {"panel": panel(name), "file": fields["file"]}
    quoted = {key: quote(os.fsencode(path)) for key, path in links.items()}
    shares = [as_percent(share) for _, share in fields["predictions"]]
    return fields | quoted | {"shares": shares, "label": label(name)}
