"""Pages from templates: of HTML the values are escaped.  A page holds all that it shows, and
fetches nothing.
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
"""The folder of this package's templates, and of ``style.css``, which a template of another package
may include.
"""


@cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=lambda value: published(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: Path, **values: Any) -> str:
    """Fill a template with values; every text that is not ``Markup`` is ``published``."""
    return _environment(template.parent).get_template(template.name).render(values)


BLOCKS: Any = _environment(HERE).get_template("blocks.html").module
"""The macros of ``blocks.html``, functions that return a part of a page."""


def image_url(image: Image.Image, kind: str, **options: int) -> Markup:
    """Return an image as a data URL; ``kind`` is a format such as ``png``."""
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return data_url(out.getvalue(), f"image/{kind}")


def data_url(content: bytes, kind: str) -> Markup:
    """Return a file as a data URL; ``kind`` is a media type."""
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode()}")
