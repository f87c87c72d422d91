"""Bad samples: what a source says of a pair that it cannot give, by a reason that is counted.

A source raises ``BadSample`` from ``pair``.  The loader keeps the sample's place in its batch with ``valid`` False: a neighbour in its
place would be a false negative, and a shift would depend on the workers.  The loss leaves it out, and the run counts it by its reason.
"""

REASONS = (
    "zero_bytes",  # an image file with nothing in it
    "truncated",  # an image file that ends too early
    "not_an_image",  # bytes that no decoder knows
    "too_large",  # more pixels than any picture has: a decompression bomb
    "too_small",  # an image of so few pixels that it shows nothing
    "missing_image",  # a caption without an image
    "missing_caption",  # an image without a caption, or without the column that captions are read from
    "empty_caption",  # nothing but white space
    "caption_encoding",  # bytes that are not UTF-8, or a record that is not JSON
    "caption_too_long",  # a page, not a caption
    "duplicate_key",  # the second sample under one key of a shard
    "unsafe_member",  # a tar member with an absolute path or ../ in its name, or a link
    "truncated_shard",  # a sample behind the end of a shard that was cut short
    "unreadable",  # the disk cannot read these bytes
    "broken_image",  # an image file that its decoder refuses
    "value_range",  # pixels of 32 bits or fractions, of which nobody knows what white is
    "broken_row",  # a line of a table with another number of fields than its header
)
"""Short machine names of all reasons.  Batches and counts hold positions in this tuple: new ones go to its end."""


class BadSample(ValueError):
    """A pair that cannot be had.

    Attributes:
        reason: one of ``REASONS``.
        where: the shard, file or folder that it lies in.
        key: its name there.
    """

    def __init__(self, reason: str, *, where: str, key: str, detail: str = "") -> None:
        """Say why, where and which; ``detail`` is for people, such as the decoder's own words."""
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {key} in {where}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.where = where
        self.key = key
