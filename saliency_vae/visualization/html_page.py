"""HTML pages on disk: their templates, and what a browser lets them do."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup


def load_template(path: Path) -> Template:
    """Load a Jinja template that escapes all values and refuses those that are not given.

    Its filter ``tojson`` keeps the order of fields and refuses NaN and infinity.
    """
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template(path.name)


def content_policy(page: str, images: str = "") -> str:
    """Write the Content-Security-Policy of a page with one ``<style>`` and one ``<script>``.

    The page may run these two, and load nothing but data within itself.

    Args:
        page: HTML, or its template; neither element may change afterwards.
        images: Where else it may load images from, such as ``'self'``.
    """
    style, script = (_allowed(page, tag) for tag in ("style", "script"))
    return (
        f"default-src 'none'; img-src {f'data: {images}'.strip()}; style-src {style}; "
        f"script-src {script}; base-uri 'none'; form-action 'none'"
    )


def data_url(kind: str, content: bytes) -> Markup:
    """Write content into a data URL of a media type."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def _allowed(page: str, tag: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
