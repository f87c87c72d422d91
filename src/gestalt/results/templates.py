"""Render pages from templates.  Values in HTML are escaped.  A page embeds everything that it
shows, and loads nothing from elsewhere.
"""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from PIL import Image

from gestalt.support.addresses import published

HERE = Path(__file__).parent
"""The folder of this package's templates and of ``style.css``.  Templates of other packages may
include ``style.css``.
"""


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=lambda value: published(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["data_url"] = data_url
    return environment


def render(template: Path, **values: Any) -> str:
    """Fill a template with values.  Every text that is not ``Markup`` passes through
    ``published``.
    """
    return _environment(template.parent).get_template(template.name).render(values)


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    """Encode an image as the bytes of a file.  ``kind`` is the format: ``png``, ``jpeg`` or
    ``webp``.
    """
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return out.getvalue()


def data_url(content: bytes, kind: str) -> Markup:
    """Return the bytes of an image file as a data URL."""
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")


def image_url(image: Image.Image, kind: str, **options: int) -> Markup:
    """Return an image as a data URL."""
    return data_url(encoded(image, kind, **options), kind)


BLOCKS: Any = _environment(HERE).get_template("blocks.html").module
"""The macros of ``blocks.html``: functions that return a part of a page."""
