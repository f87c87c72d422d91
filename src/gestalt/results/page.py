"""Pages from templates: of HTML the values are escaped.  A page holds all that it shows, and
fetches nothing.
"""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from PIL import Image

from gestalt.results import text
from gestalt.support.addresses import published

HERE = Path(__file__).parent
"""The folder of this package's templates, and of ``style.css``, which a template of another package
may include.
"""


def render(template: Path, **values: Any) -> str:
    """Fill a template with values, each passed through ``published``, and with ``text``, the module
    of numbers and tables as text.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, HERE]),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        finalize=_published,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template.name).render(values, text=text)


def _published(value: Any) -> Any:
    if isinstance(value, Path):
        value = str(value)
    # Markup stays Markup, which is not escaped again
    return type(value)(published(value)) if isinstance(value, str) else value


def image_url(image: Image.Image, kind: str, **options: int) -> str:
    """Return an image as a data URL; ``kind`` is a format such as ``png``."""
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return data_url(out.getvalue(), f"image/{kind}")


def data_url(content: bytes, kind: str) -> str:
    """Return a file as a data URL; ``kind`` is a media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
