"""Flags and checks of ``segment`` and ``group``: labels, the pictures that paths name, and where
their results go.
"""

import glob
import os
import re
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from gestalt.commands.flags import MODEL, Words, check_ending
from gestalt.commands.named_files import check_target
from gestalt.data_modules.pixels.formats import endings
from gestalt.measures.grouping.protocol import MAX_GROUPS, PARTITIONS
from gestalt.measures.segmentation.presets import PRESETS
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError

MOST_ON_A_PAGE = 200
"""Most pictures on one page, which embeds them all: about 100 KB each, and more with several
models.
"""


SEGMENTED = "_segmented.png"
GROUPED = "_grouped.png"
"""Endings of the name of a single picture's result, beside the picture."""


_PICTURES = {
    "paths PATH ...": "a picture, a folder of pictures, or a quoted pattern such as '**/*.jpg'",
    "--model --ckpt TARGET ...": {
        "dest": "models",
        "required": True,
        "help": f"{MODEL}; repeatable",
    },
    "--protocol NAME": "how pictures are resized and compared (default: the model's)",
    "--to DIR": "folder for coloured pictures, maps and numbers, made if missing",
    "--html FILE": "page with pictures, masks, heat maps and areas, which opens from disk",
    "--npy": "also write the maps as NumPy arrays",
}
_OUTPUT = "PNG of a single picture (default: <picture>{} beside it)"

WORDS = {
    "segment": Words(
        {
            **_PICTURES,
            "--output FILE": _OUTPUT.format(SEGMENTED),
            "--labels LABELS": {
                "required": True,
                "help": 'phrases, separated by commas: "dog, cat, grass"; one needs --threshold',
            },
            "--reading NAME": "how the tower's last block is computed, such as naclip",
            "--threshold X": {
                "type": float,
                "help": "smallest score of a labelled pixel, a cosine in most protocols",
            },
            "--groups N": "also show this many groups on the page",
        }
    ),
    "group": Words(
        {
            **_PICTURES,
            "--output FILE": _OUTPUT.format(GROUPED),
            "--groups N": ("largest number of groups", 8),
        }
    ),
}


def check_segment(arguments: Namespace) -> None:
    """Read ``labels``, check the names, and choose the ``pictures`` and what is written."""
    if arguments.groups is not None and arguments.html is None:
        raise ConfigError(
            f"--groups {arguments.groups}: segment shows groups on the page of --html FILE; name "
            "one, or call gestalt group"
        )
    text = arguments.labels
    labels = [label.strip() for label in text.split(",") if label.strip()]
    if not labels:
        raise ConfigError(f'--labels "{text}": name at least one, such as "dog, grass"')
    if text != text.encode(errors="ignore").decode():
        raise ConfigError(f"--labels {text!a}: not UTF-8; write the labels in UTF-8")
    if len(labels) == 1 and arguments.threshold is None:
        raise ConfigError(
            f'--labels "{text}": every pixel would have the only label; name another, separated by '
            "a comma, or give a --threshold"
        )
    if len(set(labels)) < len(labels):
        raise ConfigError(f'--labels "{text}": a label is repeated; name each once')
    arguments.labels = labels
    check_outputs(arguments, "labels", SEGMENTED, PRESETS)


def check_group(arguments: Namespace) -> None:
    """Check the names, and choose the ``pictures`` and what is written."""
    check_outputs(arguments, "groups", GROUPED, PARTITIONS)


def pictures_of(words: list[str]) -> list[Path]:
    """Return the pictures that files, folders and patterns name, each once: in the order of the
    words, and in natural order within one.

    Raises:
        ConfigError: a word that names no picture.
    """
    paths: dict[str, Path] = {}
    for word in words:
        for path in _named_by(word):
            paths.setdefault(os.path.realpath(path), path)
    return list(paths.values())


def _named_by(word: str) -> list[Path]:
    """Return the pictures of one word."""
    path = Path(word)
    pictures = []
    why = "no such file; name a picture, a folder of pictures or a pattern"
    if path.is_dir():
        # a file that is named itself is read whatever its ending
        pictures = [file for file in _files_in(path) if file.suffix.lower() in endings()]
        why = (
            f"no picture in this folder{left_out(path)}; for folders inside it write a pattern, "
            f'such as "{path / "**" / "*.jpg"}"'
        )
    elif path.exists():
        pictures = [path]
    elif glob.has_magic(word):
        pictures = [file for file in map(Path, glob.iglob(word, recursive=True)) if file.is_file()]
        why = "no file matches this pattern; name pictures or their folder"
    if not pictures:
        raise ConfigError(f"{word}: {why}")
    return sorted(pictures, key=natural)


def _files_in(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if file.name[0] != "." and file.is_file()]


def left_out(folder: Path) -> str:
    """Return how many files of a folder are not read, by ending, after a comma; empty if all are
    pictures.
    """
    names = [file.suffix.lower() or file.name for file in _files_in(folder)]
    counts = sorted(Counter(name for name in names if name not in endings()).items())
    listed = ", ".join(f"{count} {ending}" for ending, count in counts)
    return f", files left out: {listed}" if counts else ""


def natural(path: Path) -> list[list[int | str]]:
    """Return a key by which frame2 sorts before frame10, folder by folder: in each, texts and
    numbers by turns.
    """
    return [
        [int(word) if word.isdecimal() else word.casefold() for word in re.split(r"(\d+)", part)]
        for part in path.parts
    ]


def result_names(pictures: list[Path]) -> list[str]:
    """Return what the results of each picture are called, without ending: the picture's name; where
    two are equal, with their folders.

    Raises:
        ConfigError: two pictures whose results would have the same names.
    """
    common = os.path.commonpath([os.path.abspath(path.parent) for path in pictures])
    below = [Path(os.path.relpath(path, common)) for path in pictures]
    stems = [path.with_suffix("").as_posix() for path in below]
    whole_names = [f"{path.with_suffix('').as_posix()}_{path.suffix[1:]}" for path in below]
    for names in ([path.stem for path in pictures], stems, whole_names):
        if len(set(names)) == len(names):
            return names
    repeated = next(
        path for path, name in zip(pictures, names, strict=True) if names.count(name) > 1
    )
    raise ConfigError(
        f"{repeated}: another picture would have the same name in the results; give them separately"
    )


def model_folders(models: list[str], to: Path) -> list[Path]:
    """Return the folder of each model's results: ``to``, or with several models one inside it for
    each.

    Raises:
        ConfigError: a model twice.
    """
    if len(models) == 1:
        return [to]
    names = [re.sub(r"[^\w.-]+", "_", model).strip("_.") or "model" for model in models]
    if len(set(names)) < len(names):
        raise ConfigError(
            f"--model {' --model '.join(models)}: a model is repeated; name each once"
        )
    return [to / name for name in names]


def result_files(name: str, kind: str, npy: bool) -> Iterator[str]:
    """Yield the files of a picture's results: coloured, as a map, as an array if asked for, and as
    numbers.
    """
    yield f"{name}_{kind}_overlay.png"
    yield f"{name}_{kind}.png"
    if npy:
        yield f"{name}_{kind}.npy"
    yield f"{name}_{kind}.json"


def check_outputs(arguments: Namespace, kind: str, single: str, protocols: Iterable[str]) -> None:
    """Check ``groups`` and ``protocol``, expand ``paths``, and choose what is written: sets
    ``kind``, ``pictures``, ``names``, ``folders`` and ``output``, the file of one picture.

    Args:
        arguments: arguments of the command.
        kind: ``labels`` or ``groups``; the results' names end in it.
        single: ending of the name of a single picture's result, beside the picture.
        protocols: the names to choose from.

    Raises:
        ConfigError: too many groups, an unknown protocol, no place for the results, a place that
            cannot be written to, a file that is there already and was not named, or a model that
            is not there.
    """
    groups, protocol = arguments.groups, arguments.protocol
    if groups is not None and groups > MAX_GROUPS:
        raise ConfigError(f"--groups {groups}: choose 1 to {MAX_GROUPS}")
    if protocol not in (None, *protocols):
        raise ConfigError(f"--protocol {protocol}: unknown; {nearest(protocol, protocols)}")
    output = arguments.output
    to = arguments.to
    html = arguments.html
    models = arguments.models
    arguments.kind = kind
    pictures = pictures_of(arguments.paths)
    arguments.pictures, arguments.names = pictures, result_names(pictures)
    arguments.folders = [] if to is None else model_folders(models, Path(to))
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
    if html and len(pictures) > MOST_ON_A_PAGE:
        raise ConfigError(
            f"--html {html}: {len(pictures)} pictures, a page holds {MOST_ON_A_PAGE}; name fewer"
        )
    if output is None and to is None and html is None:
        arguments.output = pictures[0].with_name(f"{pictures[0].stem}{single}")
        _refuse_existing([arguments.output], "--output", "or this one to overwrite it")
    for folder in arguments.folders:
        files = [f"{kind}.json", f"{kind}.csv"]
        for name in arguments.names:
            files += result_files(name, kind, arguments.npy)
        _refuse_existing([folder / file for file in files], "--to", "or remove it")
    for model in models:
        check_target(model)
    for place in filter(os.path.isdir, arguments.paths):
        if note := left_out(Path(place)):
            print(f"{place}{note}", file=sys.stderr)


def _refuse_existing(files: list[Path], flag: str, mend: str) -> None:
    existing = next((file for file in files if os.path.exists(file)), None)
    if existing is not None:
        raise ConfigError(f"{existing}: exists already; name another place with {flag}, {mend}")
