"""A batch is filled pair by pair, and files are read ahead of decoding: the pairs equal those read
one at a time.
"""

import pytest
import torch

from gestalt.data_modules.corpora import stored_pairs, stores
from gestalt.data_modules.corpora.captions import ANY_CAPTION
from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.image_text import ImageTextDataset
from gestalt.data_modules.pairs import Source, StoredPair
from gestalt.data_modules.pixels.bad_samples import GOOD, REASONS, BadSample
from tests.data_modules.files import pair_or_bad, picture

KEYS = [(epoch, index) for epoch in (0, 2) for index in range(20)]


class Files(stores.Store):
    """JPEGs and PNGs in turns; every fifth is missing, every seventh is not an image, the last has
    no caption.
    """

    def __len__(self):
        return 20

    def digest(self):
        return "files"

    def read(self, index):
        if index % 5 == 4:
            raise BadSample("missing_image", where="files", key=str(index))
        content = picture(index, form="JPEG" if index % 2 else "PNG", side=(30 + index, 40))
        return StoredPair(
            "files",
            str(index),
            b"?" if index % 7 == 6 else content,
            None if index == 18 else [f"{index} a", f"{index} b"],
        )


def opened():
    return StoredPairs(Files(), size=16, seed=3, rule=ANY_CAPTION)


def test_the_base_classes_of_stores_keep_their_published_place():
    assert stored_pairs.Store is stores.Store
    assert stored_pairs.ImageFiles is stores.ImageFiles


@pytest.mark.parametrize("ahead", [1, 2**26])
def test_a_batch_holds_the_pairs_read_alone_and_a_reason_for_each_bad_row(ahead, monkeypatch):
    monkeypatch.setattr(stored_pairs, "AHEAD", ahead)
    batch = ImageTextDataset(opened(), size=16)[KEYS]
    assert batch["image"].shape == (40, 3, 16, 16)
    assert batch["image"].permute(0, 2, 3, 1).is_contiguous()  # as decoders write
    for row, (epoch, index) in enumerate(KEYS):
        pair = pair_or_bad(opened(), index, epoch)
        bad = isinstance(pair, BadSample)
        assert batch["image"][row].equal(
            torch.zeros(3, 16, 16, dtype=torch.uint8) if bad else pair[0]
        )
        assert batch["text"][row] == ("" if bad else pair[1])
        assert batch["reason"][row] == (REASONS.index(pair.reason) if bad else GOOD)
        assert batch["place"][row] == (f"files: {index}" if bad else "")
        assert batch["valid"][row] == (not bad)
    assert batch["valid_count"] == batch["valid"].sum()
    assert list(zip(batch["epoch"].tolist(), batch["sample_id"].tolist(), strict=True)) == KEYS


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(1, 16, 16, dtype=torch.uint8),
        torch.zeros(3, 16, 16),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
    ],
)
def test_an_image_of_another_shape_or_type_is_not_spread_over_the_batch(image):
    class Wrong(Source):
        def __len__(self):
            return 1

        def digest(self):
            return "wrong"

        def pair(self, index, epoch):
            return image, "text"

    with pytest.raises(
        ValueError, match=r"pair \(0, 0\) of Wrong .* a source gives torch.uint8 \(3, 16, 16\)"
    ):
        ImageTextDataset(Wrong(), size=16)[[(0, 0)]]
