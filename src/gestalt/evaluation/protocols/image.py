"""How a protocol makes an image ready for the image tower.  The image is resized, never the label."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Literal, get_args

Resize = Literal["square", "short_side"]
Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True, kw_only=True)
class ImageProtocol:
    """The part that all protocols share: which pixels the tower sees.

    Raises:
        ValueError: a size or a choice is impossible.
    """

    name: str
    version: int = 1  # raised whenever the same fields come to mean another computation
    input_size: int = 224  # pixels: the side of the square, or the short side
    resize: Resize = "square"  # to a square (aspect lost), or short side to input_size (aspect kept)
    multiple: int = 32  # pixels: with short_side both sides are rounded to a multiple of it; the tower's patch or stride must divide it
    interpolation: Interpolation = "bicubic"  # of the image, always antialiased

    def __post_init__(self) -> None:
        """Refuse what no image could be resized by."""
        for field, least in (("input_size", self.input_size), ("multiple", self.multiple)):
            if least < 1:
                raise ValueError(f"protocol {self.name}: {field} is {least}, at least 1 pixel is needed")
        self.check_choice("resize", choices=get_args(Resize))
        self.check_choice("interpolation", choices=get_args(Interpolation))

    def check_choice(self, field: str, *, choices: tuple[str, ...]) -> None:
        """Raise ValueError unless the field's value is among the choices."""
        if getattr(self, field) not in choices:
            raise ValueError(f"protocol {self.name}: {field} is {getattr(self, field)!r}, known: {', '.join(choices)}")

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) in pixels that an image of this size is resized to; halves round up."""
        if self.resize == "square":
            return self.input_size, self.input_size
        step = min(height, width) * self.multiple
        rows, columns = ((2 * side * self.input_size + step) // (2 * step) for side in (height, width))
        return max(1, rows) * self.multiple, max(1, columns) * self.multiple

    def digest(self) -> str:
        """16 hexadecimal digits over every field: two results with different digests are not comparable."""
        fields = {"kind": type(self).__name__, **dataclasses.asdict(self)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
