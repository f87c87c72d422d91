"""A store of good and bad samples."""

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.corpora.stores import Store
from gestalt.data_modules.pairs import StoredPair
from gestalt.data_modules.pixels.bad_samples import BadSample
from tests.data_modules.files import picture


class Planted(Store):
    """A store of given (image, captions), in shards of three."""

    def __init__(self, pairs):
        self._pairs = pairs

    def __len__(self):
        return len(self._pairs)

    def blocks(self):
        return [min(3, len(self) - start) for start in range(0, len(self), 3)]

    def digest(self):
        return "0123456789abcdef"

    def read(self, index):
        image, captions = self._pairs[index]
        if image is None:
            raise BadSample("missing_image", where="a shard", key=f"key {index}")
        return StoredPair("a shard", f"key {index}", image, captions)


PAIRS = [
    (picture(0), "a dog"),
    (picture(1)[:300], "cut short"),
    (picture(0), ["a dog", "a brown dog"]),
    (None, "nothing to see"),
    (picture(2, side=(80, 20)), ["", "usable"]),
    (b"", "nothing"),
    (picture(3), None),
    (picture(4), ["", " "]),
    (picture(5), b"\xff\xfe"),
    (picture(6)[:200], "cut short too"),
    (picture(7, form="PNG"), "a cat"),
]


def planted(pairs=PAIRS, **rule):
    return StoredPairs(Planted(pairs), size=16, seed=0, rule=CaptionRule(**rule))


GOOD_PAIRS = [
    (picture(0), "a dog"),
    (picture(1, form="PNG"), ["two birds", "birds"]),
    (picture(2, form="WEBP"), ["ä cat"]),
    (picture(3)[:200], "cut"),
]
