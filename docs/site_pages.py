"""Pages of the site that live elsewhere in the repository, and links that lead out of docs/.

The README is the site's first page. Links from page to page are written for the repository, where
people read the files too; here they are turned to where the site has these pages.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ELSEWHERE = {
    "index.md": "README.md",
    "RESULTS.md": "benchmarks/RESULTS.md",
    "faults.md": "tests/faults/README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")
_ROLE = re.compile(r":(?:class|func|meth|data|mod|attr):(?=<code>)")  # of Sphinx, in docstrings


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that live elsewhere."""
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links between files of the repository into links between pages."""
    source = ROOT / ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    pages = {(ROOT / path).resolve(): name for name, path in ELSEWHERE.items()}

    def turned(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        found = pages.get(target)
        if found is None and target.is_relative_to(ROOT / "docs"):
            found = target.relative_to(ROOT / "docs").as_posix()
        return link[1] if found is None else f"[{link[1]}]({found}{link[3] or ''})"

    return _LINK.sub(turned, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leave the roles of Sphinx out of what docstrings say: the name alone is shown."""
    return _ROLE.sub("", html)
