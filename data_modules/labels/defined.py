"""Open the images and masks of a benchmark that a file defines.  H W pixels."""

import os
from pathlib import Path

from gestalt.data_modules.labels.definition import read_definition
from gestalt.data_modules.labels.folders import read_list
from gestalt.data_modules.labels.image_set import LabelSet, select_split
from gestalt.data_modules.labels.labelled_photographs import Files, LabelledPhotographs
from gestalt.data_modules.labels.masks import SIXTEEN_BITS, ValueMap
from gestalt.data_modules.pixels.formats import endings


def open_defined(
    path: str, label_set: str | None, split: str | None, limit: int | None
) -> LabelledPhotographs:
    """Open the image set of a benchmark's file; ``limit`` keeps the first images by name.

    Raises:
        ValueError: a file that is missing or defines no benchmark; an unknown split; no such list,
            a line that names no image or no image of its own, an image without a mask, or a first
            mask with values that no class has.
    """
    known, folder = read_definition(path), Path(path).expanduser().parent
    listed = None
    if known.splits or split is not None:
        split = select_split(known.name, split, known=known.splits)
        listed = folder / known.splits[split]
    images = images_in(folder / known.images, known.image_suffix)
    masks = images_in(folder / known.masks, known.mask_suffix)
    names = sorted(images | masks)
    if listed is not None:
        names = _listed(listed, images, folder=folder)
    for name in names:
        for key, found in (("images", images), ("masks", masks)):
            if name not in found:
                raise ValueError(
                    f"{images.get(name) or masks.get(name) or listed}: no {name} among the {key} "
                    f"of {path}; add it, or list the images to score under splits"
                )
    classes = tuple(known.classes)
    assert label_set is not None
    labels = LabelSet(
        classes,
        prompts=tuple(tuple(each.prompts or [name]) for name, each in known.classes.items()),
        background=None if known.background is None else classes.index(known.background),
    )
    scored = {number: index for number, index in known.numbers.items() if index < len(classes)}
    values = ValueMap(
        scored,
        ignored=known.numbers.keys() - scored,
        rest=known.rest,
        count=len(classes),
        painted=known.painted,
    )
    opened = LabelledPhotographs(
        known.name,
        [Files(name, images[name], masks[name]) for name in names[:limit]],
        required_by=path,
        label_sets={label_set: labels},
        maps={label_set: values},
        official_length=len(names),
        modes=("RGB",) if known.painted else ("P", "L", *SIXTEEN_BITS),
        definition=known.digest(),
    )
    opened.sample(0)  # wrong values of masks are refused before a run starts
    return opened


def _listed(listed: Path, images: dict[str, Path], folder: Path) -> list[str]:
    """Return the names of the images in a list, whose lines are names, file names or paths from
    the benchmark's folder; a line that names no image is returned.

    Raises:
        ValueError: no such file, one that is not UTF-8 or has no names, a line that names two
            images, or two lines that name one.
    """
    by_file = {path.name: name for name, path in images.items()}
    by_file |= {os.path.relpath(path, folder): name for name, path in images.items()}
    lines: dict[str, str] = {}
    for line in read_list(listed):
        file = os.path.normpath(line)
        name = by_file.get(file, file)
        if file in images and name != file:
            raise ValueError(
                f"{listed}: {line} is the file {images[name]} and the name of {images[file]}; "
                "rename one"
            )
        if lines.setdefault(name, line) != line:
            raise ValueError(f"{listed}: {lines[name]} and {line} are one image; list it once")
    return list(lines)


def images_in(folder: Path, suffix: str) -> dict[str, Path]:
    """Return the images in a folder by name: the file's, without suffix and ending.

    Raises:
        ValueError: no image, or two of one name.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name, fits = path.stem.removesuffix(suffix), path.stem.endswith(suffix)
        if not fits or path.name[0] == "." or path.suffix.lower() not in endings():
            continue
        if files.setdefault(name, path) != path:
            raise ValueError(f"{path} and {files[name]} are two files of one name; move one away")
    if not files:
        raise ValueError(f"{folder} contains no *{suffix} with an ending such as {endings()[-1]}")
    return files
