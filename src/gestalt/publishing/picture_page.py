"""Results of pictures: files, and one page of images with their maps, which opens from disk and
asks for nothing outside.  K names, h w patch grid, H W pixels.

Files are a coloured picture, a map with its palette, numbers, and a summary of all.  A file's name
need not be UTF-8: what is not is written as Python's escape, from which JSON gives the name back.

In the page is everything: images as WebP at ``MAX_SIDE`` pixels at most, masks and heat maps as PNG
with a palette.  ``pictures.html`` beside this file is the template, with the page's style and its
script.
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
    """Return the map as a picture whose values are positions in the labels, in their colours."""
    return map_image(result.map.numpy(), result.colours)


def numbers(result: SegmentedImage, *, picture: Path, kind: str) -> Fields:
    """Return a picture's numbers as JSON: its size, and of each label the value in the map, colour,
    area and scores.
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
    """Write a picture's result.

    Args:
        result: result of the picture.
        entry: its numbers.
        files: by their endings the coloured picture (``_overlay.png``), the map (``.png`` and
            ``.npy``) and the numbers (``.json``).
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
    """Write ``<kind>.json``, how the results were made and all numbers, and ``<kind>.csv``, a row
    for each name in each.
    """
    import pandas as pd

    _write_json(folder / f"{kind}.json", {**about, "pictures": entries})
    rows = [{"picture": entry["picture"], **row} for entry in entries for row in entry[kind]]
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    write_whole(folder / f"{kind}.csv", table.to_csv(index=False, lineterminator="\n"))


def _write_json(path: Path, content: Fields) -> None:
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


MAX_SIDE = 1024
"""Longer side of an image on the page, pixels; larger ones are scaled down for it."""

THUMBNAIL = 96
"""Longer side of an image in the strip, pixels."""

MAX_LISTED = 100
"""Most names of an image's maps that the page lists with and without pixels; of more it lists only
those with pixels.
"""

Maps = Mapping[str, SegmentedImage]
"""Maps of one image by one model, by their kind: ``labels``, ``groups`` or both."""


def page_entry(name: str, by_model: Sequence[Maps]) -> Fields:
    """Return an image with the maps of every model, for the page."""
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
    """Write the page; a file that is there is replaced.

    Args:
        path: HTML file.
        images: of ``page_entry``.
        models: titles of the models, which are shown side by side.
        notes: sentences on the models, such as the step and the hash of their weights.
        warnings: the caveats of the models.
    """
    template = Path(__file__).with_name("pictures.html")
    html = render(template, models=models, notes=notes, images=images, warnings=warnings)
    write_whole(path, html)


def titles(models: Sequence[str]) -> list[str]:
    """Return short titles for models: a path from its experiment on, or its last part; a page that
    is passed on names no folders.

    Models whose titles would be equal keep the whole path.
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
    """Return a map's masks and heat maps by the positions of their names, the ends of the heat
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
    """Return the table of a kind of map: of each name its position, colour, and area under every
    model.
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
    """Return the labels that the page lists by their positions: all, or of many those with pixels
    in any of the maps, which have the same labels.
    """
    names = results[0].labels
    return {
        index: name
        for index, name in enumerate(names)
        if len(names) <= MAX_LISTED or any(result.areas[name] for result in results)
    }


def _png(values: Array, palette: Pixels, **options: int) -> str:
    """Return positions in a palette as the address of an embedded PNG."""
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(palette.tobytes())
    return image_url(image, "png", **options, optimize=True)
