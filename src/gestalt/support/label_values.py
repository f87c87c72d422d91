"""The type of label maps and the value that is not scored, by the number of classes; and the index
of padding.

Up to 255 classes fit one byte, in which 255 is not scored.  More classes take int32, which torch
computes with on every device, and 65535, the value that 16-bit masks of large vocabularies ignore,
so a map and its file hold the same numbers.
"""

from typing import Literal

NARROW = 255
"""The largest number of classes of a map of bytes, and the value that is not scored in it."""

IGNORE = NARROW
"""Value that no metric counts, and of a predicted pixel without a class, in maps of objects and of
at most 255 classes; maps of more classes use ``ignored_value``.
"""

WIDE = 65_535
"""The largest number of classes of any map, and the value that is not scored in a map of more than
``NARROW`` classes.
"""

MAX_CLASSES = 4_096
"""The largest number of classes that is scored; its confusion matrix takes 128 MiB."""

PADDING = -1
"""Index and sample id of a sample that pads the last batch; no pixel of its label maps is
scored.
"""


def ignored_value(classes: int) -> int:
    """Return the value of pixels without a class in maps of that many classes: not scored in a
    label, unnamed in a prediction.
    """
    return NARROW if classes <= NARROW else WIDE


def map_type(classes: int) -> Literal["uint8", "int32"]:
    """Return the name of the type of maps of that many classes, in NumPy and torch."""
    return "uint8" if classes <= NARROW else "int32"
