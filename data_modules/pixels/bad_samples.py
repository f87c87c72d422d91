"""Bad samples: pairs that cannot be read, each with a reason.

A source raises ``BadSample`` from ``pair``.  The loader keeps the sample's position in its batch
with ``valid`` False: a repeated neighbour would be a false negative, and a shift would depend on
the workers.  The loss leaves the sample out, and the run counts it by its reason.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from gestalt.support.addresses import without_secrets

REASONS = (
    "zero_bytes",  # an empty image file
    "truncated",  # an image file that ends too early
    "not_an_image",  # bytes in no known image format
    "too_large",  # more pixels than a photograph has: a decompression bomb
    "too_small",  # too few pixels to show anything
    "missing_image",  # a caption without an image
    "missing_caption",  # an image without a caption, or without the caption column
    "empty_caption",  # only white space or other invisible characters
    "caption_encoding",  # bytes that are not UTF-8, or a record that is not JSON
    "caption_too_long",  # longer than a caption can be
    "duplicate_key",  # a second sample under one key of a shard
    "unsafe_member",  # a tar member with an absolute path or ../ in its name, or a link
    "truncated_shard",  # a sample beyond the end of a truncated shard
    "unreadable",  # the disk cannot read these bytes
    "broken_image",  # an image file that its decoder rejects
    "value_range",  # 32-bit or floating-point pixels, whose value range is unknown
    "broken_row",  # a line of a table whose number of fields differs from the header's
    "dotted_name",  # an image in a tar whose name has several dots, and is none of a sample's parts
)
"""Names of all reasons.  Batches and counts hold positions in this tuple: append new reasons at its
end.
"""

GOOD = -1
"""Value of a valid pair in place of an index into ``REASONS``."""


class BadSample(ValueError):
    """A pair that cannot be read: a file that is not a usable image, or a text that is not a usable
    caption.

    A reader of bytes or texts raises it without the place, which ``bad_sample_at`` adds.

    Attributes:
        reason: one of ``REASONS``.
        detail: further text for the message, for example the decoder's error, in one line.
        where: its shard, file or folder, printable; empty while it is unknown.
        key: its name in there, printable.
    """

    def __init__(self, reason: str, detail: str = "", *, where: str = "", key: str = "") -> None:
        assert reason in REASONS, reason
        self.reason, self.detail = reason, printable(" ".join(detail.split()))
        self.where, self.key = printable(where), printable(key)
        place = f": {self.key} in {self.where}" if where else ""
        because = f" ({self.detail})" if self.detail else ""
        super().__init__(f"{reason}{place}{because}")


@contextmanager
def bad_sample_at(where: str, key: str) -> Iterator[None]:
    """Add the place to a ``BadSample`` that lacks it."""
    try:
        yield
    except BadSample as bad:
        if bad.where:
            raise
        raise BadSample(bad.reason, bad.detail, where=where, key=key) from bad


def printable(text: str) -> str:
    """Return a text without the secrets of URLs, and with escapes for line ends, control characters
    and bytes that are not UTF-8: names in tars and tables may have any.
    """
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return without_secrets("".join(escaped))
