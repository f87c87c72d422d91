"""Data type of label maps and value of pixels that are not scored, depending on the number of
classes; and the index of padding.

Up to 255 classes fit one byte, in which 255 is not scored.  More classes take int32, which torch
computes with on every device, and 65535, the value that 16-bit masks of large vocabularies ignore,
so a map and its file hold the same numbers.
"""

from typing import Literal

NARROW = 255
"""Maximum number of classes of a uint8 map, and the value in it that is not scored."""

IGNORE = NARROW
"""Value of pixels that no metric counts, and of predicted pixels without a class, in maps of
objects and of at most 255 classes.  Maps with more classes use ``ignored_value``.
"""

WIDE = 65_535
"""Maximum number of classes of any map, and the value that is not scored in a map of more than
``NARROW`` classes.
"""

MAX_CLASSES = 4_096
"""Maximum number of classes that can be scored.  The confusion matrix then takes 128 MiB."""

PADDING = -1
"""Index and sample id of a sample that pads the last batch; no pixel of its label maps is
scored.
"""


def ignored_value(classes: int) -> int:
    """Return the value of pixels without a class in maps of ``classes`` classes.  Such pixels are
    not scored in a ground truth, and have no name in a prediction.
    """
    return NARROW if classes <= NARROW else WIDE


def map_type(classes: int) -> Literal["uint8", "int32"]:
    """Return the data type of maps of ``classes`` classes; the name is valid in NumPy and torch."""
    return "uint8" if classes <= NARROW else "int32"
