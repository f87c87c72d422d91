"""Flickr8k: the folder from Kaggle with the official split files.

``Images/*.jpg``; ``captions.txt``, a CSV file with the header ``image,caption`` and five rows an
image; ``Flickr_8k.<split>Images.txt``, one name a line.
"""

import csv
import json
from collections import defaultdict
from pathlib import Path

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.stores import ImageFiles
from gestalt.data_modules.labels.folders import check_files, read_list
from gestalt.data_modules.labels.image_set import select_split
from gestalt.support.files import short_digest

SPLITS = ("train", "dev", "test")


def read_split(root: Path, split: str) -> list[tuple[Path, list[str]]]:
    """List the photographs of a split, in the order of the split file, with their captions.

    Raises:
        ValueError: an unknown split, a missing file, or a name without photograph or captions.
    """
    select_split("flickr", split, known=SPLITS)
    images = root / "Images"
    if not images.is_dir():
        raise ValueError(
            f"flickr: no folder {images}; data.root must hold Images/, captions.txt and "
            f"Flickr_8k.{split}Images.txt"
        )
    listed = root / f"Flickr_8k.{split}Images.txt"
    captions = read_captions(root / "captions.txt")
    pairs = []
    for name in read_list(listed):
        if name not in captions:
            raise ValueError(
                f"flickr: {name} is in {listed} but has no caption in {root / 'captions.txt'}"
            )
        pairs.append((images / name, captions[name]))
    check_files([path for path, _ in pairs], required_by=listed)
    return pairs


def read_captions(path: Path) -> dict[str, list[str]]:
    """Return the captions of each image, in file order, without empty ones.

    Raises:
        ValueError: no such file, another header than ``image,caption``, a row without two fields,
            an open quote, or not UTF-8.
    """
    if not path.is_file():
        raise ValueError(
            f"flickr: no file {path}; data.root must hold Images/, captions.txt and the official "
            "split files"
        )
    captions: dict[str, list[str]] = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        rows, start = csv.reader(file, strict=True), 1
        try:
            if (header := next(rows, [])) != ["image", "caption"]:
                raise ValueError(
                    f"flickr: {path} starts with {header}; its first line must be image,caption"
                )
            start = rows.line_num + 1
            for row in rows:
                if len(row) != 2:
                    raise ValueError(
                        f"flickr: {path}, line {start}: expected 2 fields, got {len(row)}: {row}"
                    )
                if caption := row[1].strip():
                    captions[row[0]].append(caption)
                start = rows.line_num + 1
        except UnicodeDecodeError as error:
            raise ValueError(
                f"flickr: {path}, after line {rows.line_num}: not UTF-8: {error.reason}"
            ) from error
        except csv.Error as error:
            raise ValueError(
                f"flickr: {path}, line {start}: {error}; close the double quote, or double it "
                "within a caption"
            ) from error
    return captions


def open_here(*, root: str | None, split: str = "train", captions: CaptionRule) -> ImageFiles:
    """Open a split.

    Raises:
        ValueError: no root, a caption column, which Flickr8k lacks, an unknown split, a missing
            file, or a name without photograph or captions.
    """
    if root is None:
        raise ValueError(
            "flickr needs data.root, a folder with Images/, captions.txt and "
            "Flickr_8k.trainImages.txt"
        )
    if captions.column is not None:
        raise ValueError(
            f"data.caption={captions.column}: Flickr8k captions have no columns; choose null"
        )
    pairs = read_split(Path(root), split)
    files = short_digest("".join(f"{path.name}\0{path.stat().st_size}\0" for path, _ in pairs))
    return ImageFiles(
        pairs, digest=short_digest(f"{files}\0{json.dumps([captions for _, captions in pairs])}")
    )
