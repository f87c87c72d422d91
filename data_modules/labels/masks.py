"""Masks: read the stored values of label files and map them to classes.  H W pixels.

Label sets of published data sets are JSON files in ``labels/tables``: class names, phrases and
file values.  ``names`` are the data set's class names in order; ``phrases`` gives a phrase, or a
list of some, for names that are not plain words.  ``maps`` has, for each kind of file, the file
values of the classes in order ("0-10 12" for twelve classes), the values of a background that
precedes them, and the values that are not scored.  A label set of coarser classes has
``groups_of``, the name of the finer label set, and ``groups``: its class names in order, each with
the finer classes in it, whose values and phrases it takes over.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gestalt.data_modules.labels.image_set import LabelSet, select_label_sets
from gestalt.data_modules.pixels.formats import MASKS
from gestalt.data_modules.pixels.photographs import open_as
from gestalt.support.arrays import Array, Ints
from gestalt.support.files import Fields
from gestalt.support.label_values import IGNORE, WIDE, ignored_value, map_type

_PACKED = np.array([65_536, 256, 1])

LOSSY = ("jpeg", "tiff_jpeg", "webp")  # compressions of a TIFF

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L")
"""Pillow modes of 16-bit grey masks, by the order of their bytes."""


def packed(colours: Array) -> Ints:
    """Return colours (..., 3) as one number each: 65536 red + 256 green + blue."""
    return colours.astype(np.int64) @ _PACKED


class ValueMap:
    """Map from the values of an 8- or 16-bit mask, or from the colours of a painted one, to
    classes.

    Args:
        classes: value -> class; a colour is one number, see ``packed``.
        ignored: values that are not scored.
        rest: class of all other values; None if they are errors.
        count: number of classes, which decides the type of the map; by default one more than the
            largest class index.
        painted: True for colours.
    """

    def __init__(
        self,
        classes: Mapping[int, int],
        *,
        ignored: Collection[int] = (),
        rest: int | None = None,
        count: int | None = None,
        painted: bool = False,
    ) -> None:
        assert not set(classes) & set(ignored)
        count = max(classes.values()) + 1 if count is None else count
        assert max(classes.values()) < count <= WIDE
        self.painted = painted
        values = 2**24 if painted else 2**16
        self._known = np.full(values, rest is not None)
        self._known[[*classes, *ignored]] = True
        other = ignored_value(count)
        self._class = np.full(values, other if rest is None else rest, dtype=map_type(count))
        self._class[list(ignored)] = other
        self._class[list(classes)] = list(classes.values())

    def __call__(self, values: Array, *, path: Path) -> Tensor:
        """Return the classes of a mask (H, W), or (H, W, 3) if it is painted: (H, W) of their
        ``map_type``, with ``ignored_value`` where it is not scored.

        Raises:
            ValueError: unknown value or colour.
        """
        if self.painted:
            values = packed(values)
        wrong = np.unique(values[~self._known[values]]).tolist()
        if wrong and self.painted:
            raise ValueError(f"{path} holds the colour #{wrong[0]:06x}, which no class has")
        if wrong:
            raise ValueError(
                f"{path} holds values {wrong}; it must hold "
                f"{_ranges(np.flatnonzero(self._known))} only"
            )
        return torch.from_numpy(self._class[values])


def read_mask(path: Path, *, image: Tensor | None, modes: Sequence[str] = ("P", "L")) -> Array:
    """Read the stored values of a mask without conversion, so palette indices are the
    values.  Returns (H, W) integers, (H, W, 3) for RGB.

    Args:
        path: a file in a format that keeps values, such as PNG.
        image: (3, H, W), whose size the mask must have; None to skip this check.
        modes: allowed Pillow modes.

    Raises:
        ValueError: unreadable, perhaps lossy, another mode, or another size than the image.
    """
    values, mode, kind, compression = open_as(
        path, lambda mask: (np.array(mask), mask.mode, mask.format, mask.info.get("compression"))
    )
    if kind not in MASKS or compression in LOSSY:
        raise ValueError(
            f"{path} is a {kind} whose compression may change values; store masks as PNG"
        )
    if mode not in modes:
        raise ValueError(
            f"{path} has mode {mode}; a mask of this layout has mode {' or '.join(modes)}"
        )
    if image is not None and values.shape[:2] != image.shape[1:]:
        raise ValueError(
            f"{path} is {values.shape[1]}x{values.shape[0]}, its image "
            f"{image.shape[2]}x{image.shape[1]}"
        )
    return values


def _ranges(values: Array) -> str:
    """Format ascending values as ranges: ``0-20, 255``."""
    runs = np.split(values, np.flatnonzero(np.diff(values) != 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def objects(
    values: Array,
    *,
    kept: Array,
    void: NDArray[np.bool_] | bool,
    path: Path,
) -> Tensor:
    """Return an instance map, (H, W) uint8: 1..n the objects in order of value, ``IGNORE`` void, 0
    elsewhere.

    Args:
        values: (H, W), one value an object.
        kept: values of the objects, ascending.
        void: (H, W), True for pixels that are neither object nor background; False for none.
        path: file of the values, for messages.

    Raises:
        ValueError: too many objects for one byte.
    """
    if len(kept) >= IGNORE:
        raise ValueError(f"{path} holds {len(kept)} objects; at most {IGNORE - 1} are supported")
    rank, is_object = np.searchsorted(kept, values), np.isin(values, kept)
    return torch.from_numpy(
        np.where(void, IGNORE, np.where(is_object, rank + 1, 0)).astype(np.uint8)
    )


class Table(NamedTuple):
    """One label set of a JSON file.

    Attributes:
        labels: classes and phrases.
        maps: kind of file -> map from file values to classes.
        entry: the JSON itself, for further keys.
    """

    labels: LabelSet
    maps: dict[str, ValueMap]
    entry: Fields


@cache
def read_tables(name: str) -> dict[str, Table]:
    """Return the label sets of ``tables/<name>.json`` by name."""
    table = files(__package__).joinpath("tables", f"{name}.json")
    entries = json.loads(table.read_bytes())
    return {
        key: _table(entry, parts=entries.get(entry.get("groups_of"), entry))
        for key, entry in entries.items()
    }


def _table(entry: Fields, parts: Fields) -> Table:
    """Make a table of groups of the classes of ``parts``, each in exactly one; a class is a group
    of its own where the table has no groups.
    """
    names, phrases, groups = parts["names"], parts.get("phrases", {}), entry.get("groups")
    order = list(range(len(names)))
    if groups is not None:
        group_of = {name: number for number, group in enumerate(groups.values()) for name in group}
        assert sum(map(len, groups.values())) == len(names)
        order = [group_of[name] for name in names]
    assert set(phrases) <= set(names)
    prompts: list[list[str]] = [[] for _ in groups or names]
    for name, group in zip(names, order, strict=True):
        known = phrases.get(name, name)
        prompts[group] += [known] if isinstance(known, str) else known
    labels = LabelSet(tuple(groups or names), tuple(map(tuple, prompts)), entry.get("background"))
    maps = {}
    for kind, row in parts.get("maps", {}).items():
        background, values = _numbers(row.get("background", "")), _numbers(row["values"])
        pairs = dict.fromkeys(background, order[0])
        pairs |= zip(values, order[bool(background) :], strict=True)
        ignored = _numbers(row.get("ignored", ""))
        maps[kind] = ValueMap(pairs, ignored=ignored, count=len(prompts))
    return Table(labels, maps, entry)


def select_tables(
    name: str, label_sets: list[str] | None, kind: str
) -> tuple[dict[str, LabelSet], dict[str, ValueMap]]:
    """Return the named label sets, or all, that can be read from a kind of file; and their maps
    from its values to classes.

    Raises:
        ValueError: unknown label set.
    """
    tables = {key: table for key, table in read_tables(name).items() if kind in table.maps}
    labels = select_label_sets({key: table.labels for key, table in tables.items()}, label_sets)
    return labels, {key: tables[key].maps[kind] for key in labels}


def _numbers(words: str) -> list[int]:
    """Parse ``"0-2 5"`` as 0, 1, 2, 5."""
    ends = [word.partition("-") for word in words.split()]
    return [number for start, _, end in ends for number in range(int(start), int(end or start) + 1)]
