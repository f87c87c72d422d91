"""A benchmark that a YAML file defines: folders of images and masks, and the classes in them.

``docs/benchmarks.md`` has an example.  Torch is not imported, so that a wrong file is refused at
once.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gestalt.support.files import short_digest
from gestalt.support.label_values import MAX_CLASSES
from gestalt.support.names import nearest
from gestalt.support.typed import ConfigError, convert, read_keys

REST = "rest"
"""Word for the values of a class that has all values that nothing else names."""


@dataclass
class Class:
    """The keys of a class: the values of its pixels in the masks, and phrases, by default its name.
    A value is a number, or a colour as [red, green, blue]; the word ``rest`` stands for all values
    that no other class has and that are not ignored.
    """

    values: list[Any] | str
    prompts: list[str] = field(default_factory=list)


@dataclass
class BenchmarkFile:
    """The keys of a file.

    Attributes:
        images, masks: folders, relative to the file.
        classes: by name, in order.
        name: prefix of the metrics, by default the file's name.
        image_suffix, mask_suffix: what follows an image's name in the names of its files.
        background: the class of everything unnamed.
        ignored: values that are not scored.
        splits: the file that lists the images of each split; empty for one split of all.
        numbers: value of a mask -> class, for ignored ones the number of classes; of painted masks
            the value is 65536 red + 256 green + blue.
        painted: True if the masks hold colours.
        rest: number of the class that has all other values; None without one.

    Raises:
        ValueError: names the key and the value.
    """

    images: str
    masks: str
    classes: dict[str, Class]
    name: str
    image_suffix: str = ""
    mask_suffix: str = ""
    background: str | None = None
    ignored: list[Any] = field(default_factory=list)
    splits: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name, re.ASCII):
            raise ValueError(f"name={self.name}: set name: to letters, digits, dots, - and _")
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"classes: there are {len(self.classes)}; list 2 to {MAX_CLASSES:,}")
        if self.background not in (None, *self.classes):
            choices = nearest(str(self.background), self.classes)
            raise ValueError(f"background={self.background}: {choices}")
        if self.splits and "val" not in self.splits:
            raise ValueError("splits: val is missing, which is scored by default")
        owners: dict[str, str] = {}
        for name, each in self.classes.items():
            for phrase in (name, *each.prompts):
                if not phrase.strip():
                    raise ValueError(f"classes.{name}: prompts {each.prompts}: a phrase is empty")
            for phrase in each.prompts or [name]:
                owner = owners.setdefault(" ".join(phrase.lower().split()), name)
                if owner != name:
                    raise ValueError(f"classes.{name}: {phrase} is a phrase of {owner} already")
        values = {f"classes.{name}": each.values for name, each in self.classes.items()}
        values["ignored"] = self.ignored
        self.numbers: dict[int, int] = {}
        self.rest: int | None = None
        for index, (place, listed) in enumerate(values.items()):
            if isinstance(listed, str):
                if listed != REST:
                    raise ValueError(f"{place}: values={listed}: write a list, or {REST}")
                if self.rest is not None:
                    raise ValueError(f"{place}: {[*values][self.rest]} has the {REST} already")
                self.rest = index
                continue
            if not listed and index < len(self.classes):
                raise ValueError(f"{place}: lists no value")
            for value in listed:
                number = _number(value, place)
                if number in self.numbers:
                    owner = [*values][self.numbers[number]]
                    raise ValueError(f"{place}: {value} is a value of {owner} already")
                self.numbers[number] = index
        lists = [listed for listed in values.values() if listed != REST]
        kinds = {isinstance(value, list) for listed in lists for value in listed}
        if len(kinds) > 1:
            raise ValueError("classes: the masks hold either numbers or colours; give only these")
        self.painted = kinds == {True}

    def digest(self) -> str:
        """Return the digest of the classes and of what is ignored; files may lie anywhere."""
        keys = asdict(self)
        return short_digest(json.dumps([keys[key] for key in ("classes", "background", "ignored")]))


def _number(value: Any, place: str) -> int:
    """Return a value of a mask, of a colour all parts, as one number."""
    count, most = (3, 255) if isinstance(value, list) else (1, 65_535)
    parts = value if count == 3 else [value]
    if len(parts) != count or not all(type(part) is int and 0 <= part <= most for part in parts):
        raise ValueError(f"{place}: {value}: write a number, 0 to 65535, or [red, green, blue]")
    return int.from_bytes(bytes(parts), "big") if count == 3 else parts[0]


def read_definition(path: str) -> BenchmarkFile:
    """Read the file of a benchmark.

    Raises:
        ConfigError: no such file or folder, or a file that defines no benchmark; names the key and
            the value.
    """
    file = Path(path).expanduser().absolute()
    try:
        known: BenchmarkFile = convert(
            {"name": file.stem, **read_keys(file, words=True)}, BenchmarkFile, origin=file.name
        )
        for key in ("images", "masks"):
            folder = file.parent / getattr(known, key)
            if not folder.is_dir():
                raise ValueError(f"{key}: no folder {folder}")
    except ValueError as error:
        raise ConfigError(f"benchmark {path}: {error}") from error
    return known
