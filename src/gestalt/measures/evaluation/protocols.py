"""Protocols: the settings that a measure scores by, as frozen dataclasses with a version and a
digest.

A measure's own protocol class and table of rows lie with the measure.  The image is resized, never
the label.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

from gestalt.support.files import short_digest
from gestalt.support.names import nearest

Resize = Literal["square", "short_side", "keep_ratio", "centre_crop"]
MapSize = Literal["native", "nearest"]

_TEMPLATES = json.loads(Path(__file__).with_name("templates.json").read_bytes())

TEMPLATES = {name: tuple(row["templates"]) for name, row in _TEMPLATES.items()}
"""The field's sets of templates by name; ``templates.json`` has their sources."""


@dataclass(frozen=True, kw_only=True)
class ImageProtocol:
    """The fields that all protocols share: they decide which pixels the tower sees.

    square: aspect lost.  short_side: aspect kept, both sides rounded to a multiple.  keep_ratio:
    short side to ``input_size``, or less where the long side would pass ``long_limit``; the other
    side in proportion, and windows are cut from it.  centre_crop: short side to ``input_size``,
    then the square in the middle; the rest is not used.

    Raises:
        ValueError: an impossible size or an unknown choice.
    """

    name: str
    version: int = 1  # raised whenever the same fields come to mean another computation
    input_size: int = 224  # pixels: the side of the square, or the short side
    resize: Resize = "square"
    # pixels: with short_side both sides are rounded to a multiple of it; see ``fitted_to``
    multiple: int = 32
    long_limit: int | None = None  # pixels, keep_ratio only: largest long side
    # keep_ratio only: int(side * scale + 0.5), as mmcv does, or int(input_size * long / short)
    rounding: Literal["half_up", "truncate"] = "half_up"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of the image
    antialias: bool = True  # False as in OpenCV and mmcv

    def __post_init__(self) -> None:
        """Refuse what is complained of."""
        for complaint in self.complaints():
            raise ValueError(f"protocol {self.name}: {complaint}")

    def complaints(self) -> Iterator[str]:
        """Yield impossible sizes, and unknown choices in every field that is a ``Literal``,
        subclasses' too; a subclass yields its own contradictions after these.
        """
        for field in ("input_size", "multiple"):
            if (pixels := getattr(self, field)) < 1:
                yield f"{field} is {pixels}, at least 1 pixel is needed"
        for field, kind in get_type_hints(type(self)).items():
            known = get_args(kind)
            if get_origin(kind) is Literal and getattr(self, field) not in known:
                yield f"{field} is {getattr(self, field)!r}, known: {', '.join(map(str, known))}"

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) in pixels that an image of this size is resized to."""
        if self.resize in ("square", "centre_crop"):
            return self.input_size, self.input_size
        short, long = min(height, width), max(height, width)
        # in float arithmetic, as the originals do, so that halves round to the same side
        if self.resize == "keep_ratio" and self.rounding == "truncate":
            other = int(self.input_size * long / short)
            return (self.input_size, other) if height <= width else (other, self.input_size)
        if self.resize == "keep_ratio":
            scale = self.input_size / short
            if self.long_limit is not None:
                scale = min(scale, self.long_limit / long)
            return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))
        step = short * self.multiple  # halves round up
        rows, columns = (
            (2 * side * self.input_size + step) // (2 * step) for side in (height, width)
        )
        return max(1, rows) * self.multiple, max(1, columns) * self.multiple

    def fitted_to(self, stride: tuple[int, int]) -> Self:
        """Return the protocol for a tower of this stride (down, across) in pixels: where it does
        not divide ``multiple``, sides are rounded to multiples of the stride.
        """
        stride_of_both = math.lcm(*stride)
        if self.resize != "short_side" or self.multiple % stride_of_both == 0:
            return self
        return dataclasses.replace(self, multiple=stride_of_both)

    def fields(self) -> dict[str, Any]:
        """Return name and value of every field that takes effect, for the record and the digest."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Return 16 hexadecimal digits over ``fields`` without ``source``: results of different
        digests are not comparable.
        """
        fields = {"kind": type(self).__name__, **self.fields()}
        fields.pop("source", None)
        return short_digest(json.dumps(fields, sort_keys=True))


@dataclass(frozen=True, kw_only=True)
class PromptProtocol(ImageProtocol):
    """A protocol of a measure that names classes by prompts.

    Raises:
        ValueError: an impossible size, an unknown choice, or a template without a place for the
            name.
    """

    # {} is the name, {article} is a or an
    templates: tuple[str, ...] = ("a photo of {article} {}",)
    # of template vectors: normalise, mean, normalise; or mean, normalise
    ensembling: Literal["normalised_mean", "raw_mean"] = "normalised_mean"
    # "an hour, a unicorn"; or by the first letter alone, as kahnchana/clippy does
    article: Literal["sound", "letter"] = "sound"
    lower_case: bool = True  # of the whole prompt

    def complaints(self) -> Iterator[str]:
        """Yield prompts without a name, after the complaints of every protocol."""
        yield from super().complaints()
        if not self.templates:
            yield "no templates, at least one is needed, such as 'a photo of {article} {}'"
        for template in self.templates:
            if "{}" not in template:
                yield f"the template {template!r} has no {{}} where the class name goes"

    def background_rule(self) -> str:
        """Return how a background class is predicted: by prompts, as any class, unless a subclass
        has another rule.
        """
        return "prompts"


@dataclass(frozen=True, kw_only=True)
class PredictionsProtocol(ImageProtocol):
    """Label maps that another system predicted, as they lie in files.

    The steps from an image to its map are the other system's, and are not known here; its maker may
    state them.  No field of ``ImageProtocol`` but name and version takes effect.
    """

    name: str = "predictions"
    # a map of another size than its truth is refused, or each pixel takes the nearest, by centres
    map_size: MapSize = "native"
    # a pixel without a class counts in the union of its true class; of groups, every value is one
    unnamed: Literal["wrong", "group"] = "wrong"

    def fields(self) -> dict[str, Any]:
        """Return name, version and the fields of this class."""
        return {key: getattr(self, key) for key in ("name", "version", "map_size", "unnamed")}


Kind = TypeVar("Kind", bound=ImageProtocol)


def build_protocol(name: str, table: Mapping[str, Kind], **changes: Any) -> Kind:
    """Return the protocol of a name with changed fields; None keeps a field.

    Raises:
        ValueError: an unknown name (the message has the nearest and all), or fields that contradict
            each other.
    """
    if name not in table:
        raise ValueError(f"unknown protocol {name!r}; {nearest(name, table)}")
    return dataclasses.replace(table[name], **without_none(changes))


def without_none(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the changes whose value is not None."""
    return {key: value for key, value in changes.items() if value is not None}
