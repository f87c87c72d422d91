"""Pages from the templates beside this file: HTML with escaped values, and Markdown.  Nothing is fetched from outside."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape


@cache
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """Return a template with its values; of an HTML template they are escaped."""
    return _templates().get_template(template).render(values)


def style_sheet() -> str:
    """Return the style sheet of the pages."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")


def address(content: bytes, kind: str) -> str:
    """Return an embedded file as the address of its element; ``kind`` is a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
