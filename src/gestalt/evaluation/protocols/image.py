"""Base of the protocols: preparation of an image for the image tower.  The image is resized, never the label."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

Resize = Literal["square", "short_side", "keep_ratio", "centre_crop"]
Rounding = Literal["half_up", "truncate"]
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, kw_only=True)
class ImageProtocol:
    """The fields that all protocols share: they decide which pixels the tower sees.

    square: aspect lost.  short_side: aspect kept, both sides rounded to a multiple.  keep_ratio: short side to ``input_size``, or less
    where the long side would pass ``long_limit``; the other side in proportion, and windows are cut from it.  centre_crop: short side to
    ``input_size``, then the square in the middle; the rest is not used.

    Raises:
        ValueError: an impossible size or an unknown choice.
    """

    name: str
    version: int = 1  # raised whenever the same fields come to mean another computation
    input_size: int = 224  # pixels: the side of the square, or the short side
    resize: Resize = "square"
    multiple: int = 32  # pixels: with short_side both sides are rounded to a multiple of it; the tower's patch or stride must divide it
    long_limit: int | None = None  # pixels, keep_ratio only: largest long side
    rounding: Rounding = "half_up"  # keep_ratio only: int(side * scale + 0.5), as mmcv does, or int(input_size * long / short)
    interpolation: Interpolation = "bicubic"  # of the image
    antialias: bool = True  # False as in OpenCV and mmcv

    def __post_init__(self) -> None:
        """Refuse impossible sizes, and unknown choices in every field that is a ``Literal``, subclasses' too."""
        for field, least in (("input_size", self.input_size), ("multiple", self.multiple)):
            if least < 1:
                raise ValueError(f"protocol {self.name}: {field} is {least}, at least 1 pixel is needed")
        for field, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, field) not in get_args(kind):
                raise ValueError(f"protocol {self.name}: {field} is {getattr(self, field)!r}, known: {', '.join(get_args(kind))}")

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) in pixels that an image of this size is resized to."""
        if self.resize in ("square", "centre_crop"):
            return self.input_size, self.input_size
        if self.resize == "keep_ratio":
            return self._kept_ratio(height, width)
        step = min(height, width) * self.multiple  # halves round up
        rows, columns = ((2 * side * self.input_size + step) // (2 * step) for side in (height, width))
        return max(1, rows) * self.multiple, max(1, columns) * self.multiple

    def _kept_ratio(self, height: int, width: int) -> tuple[int, int]:
        """Compute in float arithmetic, as the originals do, so that halves round to the same side."""
        short, long = min(height, width), max(height, width)
        if self.rounding == "truncate":
            other = int(self.input_size * long / short)
            return (self.input_size, other) if height <= width else (other, self.input_size)
        scale = self.input_size / short
        if self.long_limit is not None:
            scale = min(scale, self.long_limit / long)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def geometry(self) -> tuple[object, ...]:
        """Return the fields that decide how an image is resized; protocols in which they are equal resize alike."""
        sizes = (self.input_size, self.resize, self.multiple, self.long_limit, self.rounding)
        return (type(self).target_size, *sizes, self.interpolation, self.antialias)

    def fields(self) -> dict[str, Any]:
        """Return name and value of every field that takes effect, for the record and the digest."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Return 16 hexadecimal digits over ``fields`` without ``source``: results of different digests are not comparable."""
        fields = {"kind": type(self).__name__, **self.fields()}
        fields.pop("source", None)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
