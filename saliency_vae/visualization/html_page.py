"""HTML pages on disk: their templates and their Content-Security-Policy."""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup


def load_template(path: Path) -> Template:
    """Load a Jinja template that escapes all values and refuses missing ones.

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

    The page may use these two elements, and load nothing but data embedded in it.

    Args:
        page: HTML, or its template; the two elements must not change afterwards.
        images: Further sources of images, such as ``'self'``.
    """
    style, script = (_allowed(page, tag) for tag in ("style", "script"))
    return (
        f"default-src 'none'; img-src {f'data: {images}'.strip()}; style-src {style}; "
        f"script-src {script}; base-uri 'none'; form-action 'none'"
    )


def data_url(kind: str, content: bytes) -> Markup:
    """Encode content as a data URL of a media type."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def _allowed(page: str, tag: str) -> str:
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
