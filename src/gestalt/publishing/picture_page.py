"""One page of pictures with their maps, which opens from disk and asks for nothing outside.  K names, h w patch grid, H W pixels.

Everything is inside: pictures as WebP at ``LARGEST`` pixels at most, masks and heat maps as PNG with a palette.  ``pictures.html`` beside
this file is the template, with the page's style and its script.
"""

import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gestalt.config.loading import LOGS
from gestalt.evaluation.pictures import class_colours
from gestalt.ledger.page import address, style_sheet
from gestalt.measures.segmentation.segmented import SegmentedImage
from gestalt.publishing.folder import portable
from gestalt.support.files import replacing

LARGEST = 1024
"""Longer side of a picture on the page, pixels; larger ones are scaled down for it."""

THUMB = 96
"""Longer side of a picture in the strip, pixels."""

HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Colours of a heat map from the least to the largest similarity: five of matplotlib's ``inferno``, evenly spaced."""

MOST_LISTED = 100
"""Most names of a picture's maps that the page lists with and without pixels; of more it lists only those with pixels."""

SETS = {"labels": "Labels", "groups": "Groups"}
"""Kinds of maps, and what the page calls them."""

HELP = (
    "Choose the masks. Point at a heat button to see how much each location resembles the label; press it to keep the heat map, "
    "and press it again, or Escape, to leave it."
)

Shown = Mapping[str, SegmentedImage]


class PicturePage:
    """A page that grows by a picture at a time; ``write`` closes it.

    Args:
        models: where the models are from, such as runs' folders; they are shown side by side.
        notes: a note on each model, such as the step and the hash of its weights.
    """

    def __init__(self, models: Sequence[str], *, notes: Sequence[str] = ()) -> None:
        self.models = titles(models)
        self.notes = [f"{model}: {note}." for model, note in zip(self.models, notes, strict=bool(notes))]
        self.sections: list[str] = []
        self.thumbs: list[str] = []
        self.sets: list[str] = []

    @property
    def empty(self) -> bool:
        """True if no picture was added."""
        return not self.sections

    def add(self, name: str, shown: Sequence[Shown]) -> None:
        """Add a picture with the maps of every model, by their kind: ``labels``, ``groups`` or both."""
        number = len(self.sections)
        self.sets = list(shown[0])
        any_map = next(iter(shown[0].values()))
        original = Image.fromarray(any_map.image.permute(1, 2, 0).numpy())
        small = original.copy()
        small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
        views = [_view(model, maps, size=small.size, base=_webp(small), name=name) for model, maps in zip(self.models, shown, strict=True)]
        scaled = "" if small.size == original.size else f", shown at {small.width} x {small.height}"
        self.sections.append(
            element(
                "section",
                text("h2", name, id=f"name-{number}"),
                text("p", f"{original.width} x {original.height} pixels{scaled}", class_="quiet"),
                element(
                    "div", element("div", *views, class_="views"), self._legends(shown), class_=f"picture{' several' * (len(views) > 1)}"
                ),
                id=f"picture-{number}",
                aria_labelledby=f"name-{number}",
            )
        )
        small.thumbnail((THUMB, THUMB))
        image = f'<img alt="" src="{_webp(small)}">'
        self.thumbs.append(element("button", image, text("span", name), type="button", data_picture=number, title=name))

    def _legends(self, shown: Sequence[Shown]) -> str:
        return element("div", *(_legend(kind, [maps[kind] for maps in shown], models=self.models) for kind in self.sets), class_="legends")

    def write(self, path: Path, *, caveats: Sequence[Sequence[str]] = ()) -> None:
        """Write the page, with the caveats of each model; a file that is there is replaced."""
        warnings = "".join(text("p", f"{model}: {caveat}") for model, said in zip(self.models, caveats, strict=False) for caveat in said)
        notes = "".join(text("p", note, class_="quiet") for note in self.notes)
        strip = element("nav", *self.thumbs, class_="strip", aria_label="Pictures") if len(self.thumbs) > 1 else ""
        choices = "".join(
            f'<label><input type="radio" name="set" value="{kind}"{" checked" if kind == self.sets[0] else ""}> {SETS[kind]}</label>'
            for kind in self.sets
        )
        aid = text("p", HELP if "labels" in self.sets else "Choose the masks.", class_="quiet")
        choice = element("fieldset", text("legend", "Show"), choices) if len(self.sets) > 1 else ""
        template = files("gestalt.publishing").joinpath("pictures.html").read_text(encoding="utf-8")
        with replacing(path) as partial:
            body = warnings + aid + strip + choice + "".join(self.sections) + notes
            page = template.replace("{style}", style_sheet()).replace("{body}", body)
            partial.write_text(page, "utf-8", "backslashreplace")  # a file's name need not be UTF-8


def element(name: str, *children: str, **attributes: str | int | float) -> str:
    """Return an element around HTML; attribute names lose a trailing underscore, other underscores become ``-``."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(children)}</{name}>"


def text(name: str, words: object, **attributes: str | int | float) -> str:
    """Return an element around plain text."""
    return element(name, escape(str(words)), **attributes)


def titles(models: Sequence[str]) -> list[str]:
    """Return short titles for models: a path from its experiment on, or its last part; a page that is passed on names no folders.

    Models whose titles would be equal keep the whole path.
    """
    short = []
    for model in models:
        parts = PurePath(model).parts
        at = len(parts) - parts[::-1].index(LOGS.name) if LOGS.name in parts else len(parts)
        short.append("/".join(parts[at:]) or str(portable(model)))
    return [title if short.count(title) == 1 else model for title, model in zip(short, models, strict=True)]


def _view(model: str, maps: Shown, *, size: tuple[int, int], base: str, name: str) -> str:
    """Return a picture with its masks and heat maps on top of each other, under the model's name."""
    layers = [f'<img class="base" alt="" src="{base}">']
    for kind, result in maps.items():
        small = np.asarray(Image.fromarray(result.map.numpy()).resize(size, Image.Resampling.NEAREST))
        colours = class_colours(len(result.labels), background=None)
        for index in _listed([result]):
            colour = colours[index]
            source = _png((small == index).astype(np.uint8), palette=np.stack([np.zeros_like(colour), colour]), clear=True)
            layers.append(f'<img class="mask" alt="" data-set="{kind}" data-index="{index}" src="{source}">')
        least, most = _range(result)
        for index in _listed([result]) if len(result.similarity) else ():
            values = result.similarity[index].numpy()
            source = _png(np.rint((values - least) / max(most - least, 1e-9) * 255).astype(np.uint8), palette=_heat_palette())
            layers.append(f'<img class="heat" alt="" data-set="{kind}" data-index="{index}" src="{source}" hidden>')
    areas = "; ".join(_areas(result) for result in maps.values())
    stack = element("div", *layers, class_="stack", role="img", aria_label=f"{name}: {areas}", style=f"--ratio:{size[0] / size[1]:.4f}")
    return element("figure", text("figcaption", model), stack, *(_scale(result) for result in maps.values() if len(result.similarity)))


def _range(result: SegmentedImage) -> tuple[float, float]:
    """Return the least and the largest similarity of all labels: they share one scale, so that heat maps can be compared."""
    return (result.similarity.min().item(), result.similarity.max().item()) if len(result.similarity) else (0.0, 0.0)


def _scale(result: SegmentedImage) -> str:
    """Return the scale of the heat maps, which is shown with them."""
    least, most = _range(result)
    return element("p", text("span", f"{least:.3f}"), element("i"), text("span", f"{most:.3f} cosine"), class_="scale quiet")


def _areas(result: SegmentedImage) -> str:
    """Return the names with their areas, largest first, as a sentence."""
    ordered = sorted(result.areas.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {100 * area:.0f} %" for name, area in ordered if area > 0) or "nothing above the threshold"


def _legend(kind: str, results: Sequence[SegmentedImage], *, models: Sequence[str]) -> str:
    """Return the table of a set's names: a button for each mask and heat map, and the area under every model."""
    heat = any(len(result.similarity) for result in results)
    names = max((result.labels for result in results), key=len)
    rows = []
    colours = class_colours(len(names), background=None)
    for index in _listed(results):
        name, colour = names[index], colours[index]
        swatch = f'<b style="background:#{bytes(colour).hex()}"></b>'
        toggle = element("button", swatch, text("span", name), class_="toggle", type="button", data_index=index, aria_pressed="true")
        cells = [element("th", toggle, scope="row")]
        if heat:
            label = f"heat map of {name}"
            hot = text("button", "heat", class_="hot", type="button", data_index=index, aria_pressed="false", aria_label=label)
            cells.append(element("td", hot))
        cells += [text("td", f"{100 * result.areas.get(name, 0.0):.1f} %", class_="number") for result in results]
        rows.append(element("tr", *cells))
    heads = ["Mask", *(["Heat map"] if heat else []), *(["Area"] if len(results) == 1 else [f"Area, {model}" for model in models])]
    head = element("tr", *(text("th", word, scope="col") for word in heads))
    table = element("table", element("thead", head), element("tbody", *rows))
    left_out = len(names) - len(rows)
    note = text("p", f"{left_out} labels without pixels are left out.", class_="quiet") if left_out else ""
    buttons = "".join(text("button", f"{word} masks", type="button", class_=word.lower()) for word in ("All", "No"))
    return element("div", element("p", buttons), element("div", table, class_="wide"), note, class_="legend", data_set=kind)


def _listed(results: Sequence[SegmentedImage]) -> list[int]:
    """Return the positions of the labels that the page lists: all, or of many those with pixels in any of the maps."""
    names = max((result.labels for result in results), key=len)
    if len(names) <= MOST_LISTED:
        return list(range(len(names)))
    return [index for index, name in enumerate(names) if any(result.areas.get(name) for result in results)]


def _heat_palette() -> NDArray[np.uint8]:
    """Return 256 colours, (256, 3)."""
    steps = np.linspace(0, len(HEAT) - 1, 256)
    return np.stack([np.interp(steps, range(len(HEAT)), channel) for channel in zip(*HEAT, strict=True)], axis=1).astype(np.uint8)


def _png(values: NDArray[np.uint8], *, palette: NDArray[np.uint8], clear: bool = False) -> str:
    """Return positions in a palette as the address of an embedded PNG; ``clear`` makes position 0 transparent."""
    image = Image.fromarray(values)
    image.putpalette(palette.tobytes())
    return _embedded(image, "png", **({"transparency": 0, "bits": 1} if clear else {}), optimize=True)


def _webp(image: Image.Image) -> str:
    return _embedded(image, "webp", quality=82)


def _embedded(image: Image.Image, kind: str, **options: int) -> str:
    out = io.BytesIO()
    image.save(out, format=kind, **options)
    return address(out.getvalue(), f"image/{kind}")
