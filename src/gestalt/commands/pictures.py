"""The flags of ``segment`` and ``group``, the search for pictures, and the paths of the results."""

import glob
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from gestalt.commands.flags import MODEL, add_code, check_code, check_ending
from gestalt.data_modules.pixels.formats import endings
from gestalt.measures.grouping.protocol import MAX_GROUPS
from gestalt.models.finding import check_target
from gestalt.support.names import file_name, nearest
from gestalt.support.plugins import find_code
from gestalt.support.typed import ConfigError

MAX_ON_A_PAGE = 200
"""Maximum number of pictures on one page.  The page embeds all of them: about 100 KB for each
picture, and more with several models.
"""


class Work(NamedTuple):
    """The pictures that ``segment`` or ``group`` maps, and the files that the command writes.

    Attributes:
        kind: kind of map, ``labels`` or ``groups``.  The names of the results end in it.
        labels: labels to choose from for each pixel; empty for groups.
        overrides: words that name the code of a model.
        pictures: the pictures, each once.
        names: name of the results of each picture, without ending.
        suffixes: endings of the files of a picture: the coloured image, the map, the array if
            requested, and the numbers.
        folders: a folder for the results of each model; empty without ``--to``.
        output: file for the result of a single picture; None otherwise.
    """

    kind: str
    labels: Sequence[str]
    overrides: list[str]
    pictures: list[Path]
    names: list[str]
    suffixes: list[str]
    folders: list[Path]
    output: str | Path | None


def add_pictures(parser: ArgumentParser) -> None:
    """Add the arguments for the pictures, the models, and the paths of the results."""
    add = parser.add_argument
    add(
        "paths",
        metavar="PATH",
        nargs="+",
        help="a picture, a folder of pictures, or a quoted pattern such as '**/*.jpg'",
    )
    add(
        "--model",
        "--ckpt",
        metavar="TARGET",
        dest="models",
        action="append",
        required=True,
        help=f"{MODEL}; repeatable",
    )
    add(
        "--protocol",
        help="how pictures are resized and scored (default: the model's)",
    )
    add(
        "--to",
        metavar="DIR",
        help="folder for coloured pictures, label maps and numbers, created if missing",
    )
    add(
        "--output",
        metavar="FILE",
        help="PNG of a single picture (default: <picture>_segmented.png or _grouped.png in its "
        "folder)",
    )
    add(
        "--html",
        metavar="FILE",
        help="HTML page with pictures, masks, heat maps and areas, which opens without a server",
    )
    add("--npy", action="store_true", help="also write the maps as NumPy arrays")
    add_code(parser)


def pictures_of(words: list[str]) -> list[Path]:
    """Return the pictures that files, folders and patterns name, each once.

    Pictures are in the order of the words, and in natural order within one word.

    Raises:
        ConfigError: a word names no picture.
    """
    found: dict[str, Path] = {}
    for word in words:
        for path in _named_by(word):
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _named_by(word: str) -> list[Path]:
    """Return the pictures of one word."""
    path = Path(word)
    why = "no such file; name a picture, a folder of pictures or a pattern"
    if path.is_dir():
        # A file that the user names is read whatever its ending.
        pictures = [file for file in _files_in(path) if file.suffix.lower() in endings()]
        pattern = path / "**" / "*.jpg"
        why = (
            f'no picture in this folder; for folders inside it write a pattern, such as "{pattern}"'
        )
    elif path.exists():
        pictures = [path]
    else:
        pictures = [file for file in map(Path, glob.iglob(word, recursive=True)) if file.is_file()]
    if not pictures:
        raise ConfigError(f"{word}: {why}")
    return sorted(pictures, key=natural)


def _files_in(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name[0] != "." and file.is_file()]


def natural(path: Path) -> list[int | str]:
    """Return a sort key of alternating texts and numbers, so that frame2 comes before frame10."""
    words = re.split(r"(\d+)", str(path).casefold())
    return [int(word) if word.isdecimal() else word for word in words]


def result_names(pictures: list[Path]) -> list[str]:
    """Return the name of the results of each picture, without ending.

    This is the picture's name, with its folders if two pictures have the same name.

    Raises:
        ConfigError: the results of two pictures would have the same name.
    """
    common = os.path.commonpath([os.path.abspath(path.parent) for path in pictures])
    below = [Path(os.path.relpath(path, common)) for path in pictures]
    with_folders = [path.with_suffix("").as_posix() for path in below]
    with_endings = [
        f"{name}_{path.suffix[1:]}" for name, path in zip(with_folders, below, strict=True)
    ]
    for names in ([path.stem for path in pictures], with_folders, with_endings):
        if len(set(names)) == len(names):
            return names
    raise ConfigError(
        f"{max(names, key=names.count)}: another picture would have the same name in the results; "
        "give them separately"
    )


def model_folders(models: list[str], to: Path) -> list[Path]:
    """Return the folder for each model's results: ``to``, or with several models a folder inside
    ``to`` for each.

    Raises:
        ConfigError: a model is named twice.
    """
    if len(models) == 1:
        return [to]
    names = [file_name(model).strip("_.") for model in models]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"--model {' --model '.join(models)}: a model is repeated; name each once"
        )
    return [to / name for name in names]


def check_pictures(
    arguments: Namespace,
    *,
    kind: str,
    ending: str,
    protocols: Iterable[str],
    labels: Sequence[str] = (),
) -> Work:
    """Check the arguments that ``segment`` and ``group`` share, and choose the files to write.

    Args:
        arguments: arguments of the command.
        kind: kind of map.
        ending: ending of the result of a single picture, which is written beside the picture.
        protocols: names of protocols to choose from.
        labels: labels to choose from for each pixel.

    Raises:
        ConfigError: there are too many groups, or the protocol is unknown; no folder or file is
            given for the results, or it cannot be written to; a result would overwrite a file that
            was not named; or a model does not exist.
    """
    groups, protocol = arguments.groups, arguments.protocol
    if groups is not None and groups > MAX_GROUPS:
        raise ConfigError(f"--groups {groups}: choose 1 to {MAX_GROUPS}")
    if protocol not in (None, *protocols):
        raise ConfigError(f"--protocol {protocol}: unknown; {nearest(protocol, protocols)}")
    output, to, html, models = arguments.output, arguments.to, arguments.html, arguments.models
    code = [word for word in arguments.paths if "=" in word and find_code(word)]
    check_code(arguments)
    pictures = pictures_of([word for word in arguments.paths if word not in code] or code)
    names = result_names(pictures)
    folders = [] if to is None else model_folders(models, Path(to))
    alone = len(pictures) == len(models) == 1
    several = f"{len(pictures)} pictures, {len(models)} models"
    if output and not alone:
        raise ConfigError(
            f"--output {output}: for one picture and one model, not {several}; name a folder with "
            "--to"
        )
    if not alone and to is None and html is None:
        raise ConfigError(
            f"{several}: name a folder for the results with --to DIR, or a page with --html FILE"
        )
    if arguments.npy and to is None:
        raise ConfigError("--npy: arrays are written into the folder of --to DIR; name one")
    if to is not None and Path(to).is_file():
        raise ConfigError(f"--to {to}: not a folder; name one, which is made if missing")
    check_ending("--output", output, ".png")
    check_ending("--html", html, ".html", ".htm")
    for flag, file in (("--output", output), ("--html", html)):
        if file and not Path(file).parent.is_dir():
            raise ConfigError(f"{flag} {file}: folder {Path(file).parent} not found")
    if output and os.path.realpath(output) == os.path.realpath(pictures[0]):
        raise ConfigError(f"--output {output}: this is the picture itself; name another file")
    if html and len(pictures) > MAX_ON_A_PAGE:
        raise ConfigError(
            f"--html {html}: {len(pictures)} pictures, a page holds {MAX_ON_A_PAGE}; name fewer"
        )
    arrays = [".npy"] if arguments.npy else []
    suffixes = [f"_{kind}{end}" for end in ("_overlay.png", ".png", *arrays, ".json")]
    files = [f"{kind}.json", f"{kind}.csv"]
    files += [f"{name}{suffix}" for name in names for suffix in suffixes]
    written = [folder / file for folder in folders for file in files]
    mend = "another place with --to, or remove it"
    if output is None and to is None and html is None:
        output = pictures[0].with_name(pictures[0].stem + ending)
        written = [output]
        mend = "another place with --output, or this one to overwrite it"
    if existing := next(filter(os.path.exists, written), None):
        raise ConfigError(f"{existing}: exists already; name {mend}")
    for model in models:
        check_target(model)
    for place in filter(os.path.isdir, arguments.paths):
        others = sum(file.suffix.lower() not in endings() for file in _files_in(Path(place)))
        if others:
            print(f"{place}: files left out, which are no pictures: {others}", file=sys.stderr)
    return Work(
        kind=kind,
        labels=labels,
        overrides=[*arguments.overrides, *code],
        pictures=pictures,
        names=names,
        suffixes=suffixes,
        folders=folders,
        output=output,
    )
