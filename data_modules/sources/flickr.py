"""Flickr8k as a source: the folder as it is on Kaggle, with the official split files.

``Images/*.jpg``; ``captions.txt``, CSV with the header ``image,caption``, five rows an image; ``Flickr_8k.<split>Images.txt``, one name
a line.
"""

import csv
import hashlib
from collections import defaultdict
from pathlib import Path

from data_modules.corpora.captions import ANY_CAPTION, CaptionRule
from data_modules.corpora.stored_pairs import Stored, StoredPairs, read_stored

SPLITS = ("train", "dev", "test")


def read_split(root: Path, *, split: str) -> list[tuple[Path, list[str]]]:
    """The photographs of a split in the order of its file, each with its captions.

    Raises:
        ValueError: a file that is not there, an unknown split, a name without a photograph or without captions.
    """
    if split not in SPLITS:
        raise ValueError(f"flickr split {split!r} is unknown; known: {', '.join(SPLITS)}")
    images = root / "Images"
    if not images.is_dir():
        raise ValueError(f"flickr: no folder {images}; data.root must hold Images/, captions.txt and Flickr_8k.{split}Images.txt")
    names = [line.strip() for line in _existing(root / f"Flickr_8k.{split}Images.txt").read_text(encoding="utf-8").splitlines()]
    captions = read_captions(_existing(root / "captions.txt"))
    present = {path.name for path in images.iterdir()}
    pairs = []
    for name in filter(None, names):
        if name not in present:
            raise ValueError(f"flickr: {name} is in Flickr_8k.{split}Images.txt but not in {images}")
        if not captions.get(name):
            raise ValueError(f"flickr: {name} is in Flickr_8k.{split}Images.txt but has no caption in {root / 'captions.txt'}")
        pairs.append((images / name, captions[name]))
    if not pairs:
        raise ValueError(f"flickr: {root / f'Flickr_8k.{split}Images.txt'} names no photograph")
    return pairs


def read_captions(path: Path) -> dict[str, list[str]]:
    """Captions of each image, in file order; empty ones are left out.

    Raises:
        ValueError: another header than ``image,caption``, or a row without two fields.
    """
    captions: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        if (header := next(rows, [])) != ["image", "caption"]:
            raise ValueError(f"flickr: {path} starts with {header}; its first line must be image,caption")
        for row in rows:
            if len(row) != 2:
                raise ValueError(f"flickr: {path}, line {rows.line_num}: {len(row)} fields, not 2: {row}")
            if caption := row[1].strip():
                captions[row[0]].append(caption)
    return captions


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"flickr: no file {path}; data.root must hold Images/, captions.txt and the official split files")
    return path


class FlickrFiles:
    """Photographs as stored pairs, each with its captions."""

    def __init__(self, pairs: list[tuple[Path, list[str]]]) -> None:
        """Take (file, captions) pairs."""
        self._pairs = pairs

    def __len__(self) -> int:
        """Number of photographs."""
        return len(self._pairs)

    def blocks(self) -> list[int]:
        """One block: a sample is as quickly read as its neighbour."""
        return [len(self)]

    def digest(self) -> str:
        """Sixteen hexadecimal digits over the photographs' names and sizes in bytes."""
        files = "".join(f"{path.name}\0{path.stat().st_size}\0" for path, _ in self._pairs)
        return hashlib.sha256(files.encode()).hexdigest()[:16]

    def stored(self, index: int) -> Stored:
        """A photograph's file and its captions."""
        path, captions = self._pairs[index]
        return read_stored(path, captions=captions)


def open_here(
    *, root: str | None, size: int, seed: int, limit: int | None, split: str = "train", captions: CaptionRule = ANY_CAPTION
) -> StoredPairs:
    """Open a split; ``limit`` takes its first photographs.

    Raises:
        ValueError: no root, a caption column, which Flickr has not, or as ``read_split``.
    """
    if root is None:
        raise ValueError("flickr needs data.root, a folder with Images/, captions.txt and Flickr_8k.trainImages.txt")
    if captions.column is not None:
        raise ValueError(f"data.caption={captions.column}: Flickr's captions have no columns; choose null")
    return StoredPairs(FlickrFiles(read_split(Path(root), split=split)), size=size, seed=seed, rule=captions, limit=limit)
