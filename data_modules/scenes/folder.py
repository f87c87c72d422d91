"""Folders of cut-outs: PNG files with transparency, each with a text file that describes it.

The first line of ``dog.txt`` is the English caption of ``dog.png``; further lines (translations)
are ignored.  Debian's ``tuxpaint-stamps-default`` (/usr/share/tuxpaint/stamps) is such a folder.
"""

import hashlib
import re
from collections import Counter, defaultdict
from pathlib import Path

from PIL import Image

from gestalt.data_modules.corpora.bad_samples import BadSample
from gestalt.data_modules.pixels.photographs import decoding, open_checked, read_bytes
from gestalt.data_modules.scenes.recipes import Noun, plural_of

_NOUN = re.compile(r"an? ([a-z]+(?:[ -][a-z]+)?)")
"""The object of a caption, "brown hen" of "A brown hen.": one or two words after an article."""
MAX_CAPTION = 10_000  # characters
_LEAST_SIDE = 24
_LONGEST_SHAPE = 4.0


def read_folder(root: Path, limit: int) -> tuple[tuple[Noun, ...], str]:
    """Find the usable cut-outs under ``root`` and its sub-folders; keep the ``limit`` classes with
    most pictures, ties by name.  Returns the classes, and the digest of their files.

    Raises:
        ValueError: no such folder, or fewer than two classes in it.
    """
    if not root.is_dir():
        raise ValueError(
            f"data.root {str(root)!r} is not a folder; scenes need a folder of PNG cut-outs, each "
            "with a caption in a .txt"
        )
    skipped: Counter[str] = Counter()
    pictures: dict[str, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() == ".svg":
            skipped["an SVG"] += 1
        elif path.suffix.lower() == ".png":
            reason, noun = _judge(path)
            if noun is None:
                skipped[reason] += 1
            else:
                pictures[noun].append(path.relative_to(root).as_posix())
    # two-word names are merged into the class of their last word: "sports car" into "car"
    for name in list(pictures):
        last = name.split(" ")[-1]
        if last != name and last in pictures:
            pictures[last] += pictures.pop(name)
    names = sorted(pictures, key=lambda name: (-len(pictures[name]), name))
    if len(names) < 2:
        raise ValueError(
            f"data.root {str(root)!r} has {len(names)} usable class(es) of cut-outs, at least 2 "
            f"are needed; skipped: {dict(skipped)}"
        )
    classes = tuple(
        Noun(name, plural_of(name), tuple(sorted(pictures[name]))) for name in names[:limit]
    )
    total = hashlib.sha256()
    for kind in classes:
        for picture in kind.pictures:
            total.update(f"{kind.name}\0{picture}\0".encode() + (root / picture).read_bytes())
    return classes, total.hexdigest()[:16]


def _judge(path: Path) -> tuple[str, str | None]:
    """Return an empty string and the noun of a usable PNG, or the cause of rejection and None."""
    caption = path.with_suffix(".txt")
    if not caption.is_file():
        return "no .txt beside it", None
    with caption.open(encoding="utf-8", errors="replace") as file:
        lines = file.readline(MAX_CAPTION).splitlines() or [""]
    first = re.split(r"[.!?,;:(]|--| [-\u2013\u2014] ", lines[0].strip().lower())[0].strip()
    noun = _NOUN.fullmatch(first)
    if noun is None:
        return 'caption is not "a" and one or two words', None
    try:
        with decoding():
            reason = _fault(open_checked(read_bytes(path), ("PNG",)))
    except BadSample as error:
        reason = error.reason
    return reason, None if reason else noun[1]


def _fault(image: Image.Image) -> str:
    """Return why a picture has no usable shape; empty if it has one."""
    if min(image.size) < _LEAST_SIDE or max(image.size) > _LONGEST_SHAPE * min(image.size):
        return "too small or too long"
    if not image.has_transparency_data:
        return "no transparency"
    alpha = image.convert("RGBA").getchannel("A").histogram()
    solid = sum(alpha[128:]) / sum(alpha)
    return "" if 0.05 <= solid <= 0.98 else "no shape in its transparency"
