"""HTML elements, tables, and the style sheet of a self-contained page."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

STYLE = """
:root{color-scheme:light dark;
--ink:#1b1f23;--paper:#fff;--quiet:#59636e;--line:#d5dbe1;--soft:#f3f5f7;--bar:#2f6690;--low:#b4472f}
@media (prefers-color-scheme:dark){
:root{--ink:#e4e8ec;--paper:#15181b;--quiet:#9aa5b0;--line:#343b42;--soft:#1e2327;--bar:#79aed6;--low:#e58a72}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:72rem;padding:2rem 1.25rem 4rem;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
h1{font-size:1.75rem;margin:0 0 .25rem}
h2{font-size:1.35rem;margin:3rem 0 .5rem;padding-top:1rem;border-top:2px solid var(--line)}
h3{font-size:1.1rem;margin:2rem 0 .5rem}
h4{font-size:1rem;margin:1.5rem 0 .5rem}
p{max-width:50rem;margin:.5rem 0}
.quiet,caption,figcaption{color:var(--quiet);font-size:.875rem}
a{color:var(--bar)}
.wide{overflow-x:auto;margin:.75rem 0}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.35rem}
th,td{text-align:left;padding:.3rem .9rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}
td.number,th.number{text-align:right;white-space:nowrap}
.bars{columns:19rem;column-gap:2rem;padding:0;margin:.5rem 0;list-style:none;font-size:.875rem;font-variant-numeric:tabular-nums}
.bars li{display:grid;grid-template-columns:8.5rem 1fr 3rem;gap:.5rem;align-items:center;break-inside:avoid;padding:1px 0}
.bars span:first-child{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.bars span:last-child{text-align:right}
.bar{display:block;height:.7rem;background:var(--soft);border-radius:2px}
.bar i{display:block;height:100%;background:var(--bar);border-radius:2px;print-color-adjust:exact;-webkit-print-color-adjust:exact}
.bar i.none{background:var(--low)}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));gap:1.5rem 2.5rem;align-items:start}
.images{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(26rem,100%),1fr));gap:1.5rem}
figure{margin:0;break-inside:avoid}
.triple{display:grid;grid-template-columns:repeat(3,1fr);gap:4px}
.triple img{width:100%;height:auto;display:block}
.small img{image-rendering:pixelated}
.keys{display:flex;flex-wrap:wrap;gap:.1rem .9rem;margin:.3rem 0 0;padding:0;list-style:none;font-size:.825rem}
.keys b{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border:1px solid var(--quiet);vertical-align:-.05em}
.keys b,rect{print-color-adjust:exact;-webkit-print-color-adjust:exact}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.25rem;font-size:.875rem;margin:.5rem 0}
dt{color:var(--quiet)}
dd{margin:0;overflow-wrap:anywhere}
code{font:.85em ui-monospace,monospace}
details{margin:.75rem 0}
summary{cursor:pointer;font-weight:600}
svg{max-width:100%;height:auto;font:12px system-ui,sans-serif}
svg text{fill:var(--ink)}
svg .axis{stroke:var(--line);fill:none}
svg .quiet{fill:var(--quiet)}
@media print{
:root{--ink:#000;--paper:#fff;--quiet:#444;--line:#bbb;--soft:#eee;--bar:#2f6690;--low:#b4472f}
body{max-width:none;padding:0;font-size:11pt}nav{display:none}
.images,.two{grid-template-columns:1fr 1fr}
details::details-content{content-visibility:visible;block-size:auto}
h2,h3,h4{break-after:avoid}tr,li{break-inside:avoid}.wide{overflow:visible}}
"""


def element(name: str, *children: str, **attributes: str | int | float) -> str:
    """Return an element around HTML; attribute names lose a trailing underscore, other underscores become ``-``."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def text(name: str, words: object, **attributes: str | int | float) -> str:
    """Return an element around plain text."""
    return element(name, escape(str(words)), **attributes)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, numbers: Sequence[int] = ()) -> str:
    """Return a table of plain text whose first column heads its rows; the columns ``numbers`` are aligned to the right."""
    classes = {column: {"class_": "number"} for column in numbers}
    head = element("tr", *(text("th", name, scope="col", **classes.get(column, {})) for column, name in enumerate(heads)))
    body = [
        element(
            "tr", text("th", row[0], scope="row"), *(text("td", cell, **classes.get(column, {})) for column, cell in enumerate(row[1:], 1))
        )
        for row in rows
    ]
    content = [text("caption", caption), element("thead", head), element("tbody", *body)]
    return element("div", element("table", *content), class_="wide")


def definitions(pairs: Sequence[tuple[str, object]]) -> str:
    """Return a list of terms and their values."""
    return element("dl", *(text("dt", key) + element("dd", text("code", value)) for key, value in pairs))


def details(summary: str, *inside: str) -> str:
    """Return a section that unfolds."""
    return element("details", text("summary", summary), *inside)


def bars(values: Sequence[tuple[str, float]]) -> str:
    """Return names with values in [0, 1] as bars, in columns; 0 is marked."""
    items = []
    for name, value in values:
        inner = f'<i{"" if value > 0 else " class=none"} style="width:{max(100 * value, 1.0):.1f}%"></i>'
        items.append(element("li", text("span", name, title=name), element("span", inner, class_="bar"), text("span", f"{value:.3f}")))
    return element("ul", *items, class_="bars")


def picture(image: Image.Image, *, alt: str) -> str:
    """Return a picture embedded in the page: PNG up to 160 pixels, else JPEG."""
    out = io.BytesIO()
    kind = "png" if max(image.size) <= 160 else "jpeg"
    image.save(out, format=kind, **({} if kind == "png" else {"quality": 85}))
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}">'


def page(title: str, *inside: str) -> str:
    """Return a whole document."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{text("title", title)}'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>{"".join(inside)}</body></html>\n'
