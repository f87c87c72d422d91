"""Write the results of pictures as files, and as one page of images with their maps.

The page opens from disk and loads nothing from elsewhere. K names, h w patch grid, H W pixels.

The files are a coloured picture, a map with its palette, numbers, and a summary of all pictures.
File names may contain bytes that are not UTF-8: JSON stores them as Python's escapes, from which
the name can be restored.

The page embeds images as WebP of at most ``MAX_SIDE`` pixels, and masks and heat maps as PNG with a
palette. ``pictures.html`` beside this file is the template, with the style and the script.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gestalt.config.folders import LOGS
from gestalt.measures.evaluation.pictures import map_image, pil_image
from gestalt.measures.segmentation.segmented import SegmentedImage
from gestalt.models.folder import portable
from gestalt.results.templates import image_url, render
from gestalt.support.arrays import Array, Pixels
from gestalt.support.files import Fields, replacing, write_whole

COLUMNS = ("picture", "name", "area", "mean", "max")


def indexed(result: SegmentedImage) -> Image.Image:
    """Return a map as a palette image.  Pixel values are indices of labels, and the palette has
    their colours.
    """
    return map_image(result.map.numpy(), result.colours)


def numbers(result: SegmentedImage, *, picture: Path, kind: str) -> Fields:
    """Return the numbers of a picture as JSON: its size, and for each label the value in the map,
    the colour, the area and the scores.
    """
    colours = result.colours
    rows = [
        {
            "name": name,
            "value": value,
            "colour": f"#{bytes(colours[value]).hex()}",
            "area": round(result.areas[name], 6),
            **(result.scores[name]._asdict() if result.scores else {}),
        }
        for value, name in enumerate(result.labels)
    ]
    height, width = result.map.shape
    without = max(0.0, 1 - sum(result.areas.values()))
    return {
        "picture": str(picture),
        "width": width,
        "height": height,
        kind: rows,
        "without": round(without, 6),
    }


def write_result(result: SegmentedImage, entry: Fields, files: Sequence[Path]) -> None:
    """Write the result files of a picture.

    Args:
        result: result of the picture.
        entry: numbers of the picture.
        files: paths to write.  The ending of a path selects the content: the coloured picture
            (``_overlay.png``), the map (``.png`` and ``.npy``), or the numbers (``.json``).
    """
    for path in files:
        if path.suffix == ".json":
            _write_json(path, entry)
            continue
        with replacing(path) as partial, partial.open("wb") as file:
            if path.suffix == ".npy":
                np.save(file, result.map.numpy())
            else:
                overlay = path.name.endswith("_overlay.png")
                (result.overlay() if overlay else indexed(result)).save(file, format="PNG")


def write_summary(entries: list[Fields], about: Fields, folder: Path, kind: str) -> None:
    """Write ``<kind>.json``, with the settings and all numbers, and ``<kind>.csv``, with a row for
    each name in each picture.
    """
    import pandas as pd

    _write_json(folder / f"{kind}.json", {**about, "pictures": entries})
    rows = [{"picture": entry["picture"], **row} for entry in entries for row in entry[kind]]
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    write_whole(folder / f"{kind}.csv", table.to_csv(index=False, lineterminator="\n"))


def _write_json(path: Path, content: Fields) -> None:
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


MAX_SIDE = 1024
"""Maximum length in pixels of the longer side of an image on the page.  Larger images are scaled
down.
"""

THUMBNAIL = 96
"""Length in pixels of the longer side of an image in the strip."""

MAX_LISTED = 100
"""Maximum number of names of an image for which the page lists all names.  If there are more, it
lists only names with pixels.
"""

Maps = Mapping[str, SegmentedImage]
"""Kind (``labels`` or ``groups``) -> map of one image from one model."""


def page_entry(name: str, by_model: Sequence[Maps]) -> Fields:
    """Return the entry of an image on the page, with the maps of every model."""
    any_map = next(iter(by_model[0].values()))
    original = pil_image(any_map.image)
    small = original.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    thumbnail = small.copy()
    thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
    return {
        "name": name,
        "original": original.size,
        "size": small.size,
        "base": image_url(small, "webp", quality=82),
        "thumbnail": image_url(thumbnail, "webp", quality=82),
        "views": [
            [_layers(kind, result, small.size) for kind, result in maps.items()]
            for maps in by_model
        ],
        "legends": [_legend(kind, [maps[kind] for maps in by_model]) for kind in by_model[0]],
    }


def write_page(
    path: Path,
    images: Sequence[Fields],
    models: Sequence[str],
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
) -> None:
    """Write the page.  An existing file is replaced.

    Args:
        path: HTML file.
        images: entries from ``page_entry``.
        models: titles of the models, which are shown side by side.
        notes: sentences on the models, such as the step and the hash of their weights.
        warnings: the caveats of the models.
    """
    template = Path(__file__).with_name("pictures.html")
    html = render(template, models=models, notes=notes, images=images, warnings=warnings)
    write_whole(path, html)


def titles(models: Sequence[str]) -> list[str]:
    """Return short titles for models: the part of a path from the experiment on, or the last part.

    Titles have no folders, so that a published page does not reveal them.

    Models whose titles would be equal keep their whole paths.
    """
    short = []
    for model in models:
        _, logs, inside = f"/{model}".rpartition(f"/{LOGS.name}/")
        short.append(inside if logs else str(portable(model)))
    return [
        title if short.count(title) == 1 else model
        for title, model in zip(short, models, strict=True)
    ]


def _layers(kind: str, result: SegmentedImage, size: tuple[int, int]) -> Fields:
    """Return the masks and heat maps of a map by the indices of their names, the limits of the heat
    maps' scale, and areas in words.

    The heat maps of all labels share one scale, so that they can be compared.
    """
    import matplotlib

    values = np.asarray(Image.fromarray(result.map.numpy()).resize(size, Image.Resampling.NEAREST))
    inferno = matplotlib.colormaps["inferno"](range(256), bytes=True)[:, :3]
    colours = result.colours
    masks, heat = {}, {}
    least, most = 0.0, 0.0
    if len(result.similarity):
        least, most = (end.item() for end in result.similarity.aminmax())
    for index in _listed([result]):
        if colours[index].any():
            palette = np.stack([np.zeros(3, dtype=np.uint8), colours[index]])
            masks[index] = _png(values == index, palette, transparency=0, bits=1)
        if len(result.similarity):
            shades = (result.similarity[index].numpy() - least) / max(most - least, 1e-9) * 255
            heat[index] = _png(np.rint(shades), palette=inferno)
    largest_first = sorted(result.areas.items(), key=lambda pair: -pair[1])
    areas = ", ".join(f"{name} {100 * area:.0f} %" for name, area in largest_first if area > 0)
    return {
        "kind": kind,
        "masks": masks,
        "heat": heat,
        "least": least,
        "most": most,
        "areas": areas or "nothing above the threshold",
    }


def _legend(kind: str, results: Sequence[SegmentedImage]) -> Fields:
    """Return the table of a kind of map: the index, the colour, and the area under every model for
    each name.
    """
    count, colours = len(results[0].labels), results[0].colours
    rows = [
        {
            "index": index,
            "name": name,
            "colour": bytes(colours[index]).hex(),
            "areas": [100 * result.areas[name] for result in results],
        }
        for index, name in _listed(results).items()
    ]
    heat = len(results[0].similarity) > 0
    return {"kind": kind, "heat": heat, "rows": rows, "unlisted": count - len(rows)}


def _listed(results: Sequence[SegmentedImage]) -> dict[int, str]:
    """Return index -> label for the labels that the page lists.

    All labels are listed; if there are many, only those with pixels in at least one map. All maps
    have the same labels.
    """
    names = results[0].labels
    return {
        index: name
        for index, name in enumerate(names)
        if len(names) <= MAX_LISTED or any(result.areas[name] for result in results)
    }


def _png(values: Array, palette: Pixels, **options: int) -> str:
    """Return indices into a palette as the data URL of a PNG."""
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(palette.tobytes())
    return image_url(image, "png", **options, optimize=True)
