"""Inspection finds exactly the planted faults."""

from io import BytesIO

import pytest
from PIL import Image

from gestalt.data_modules.pixels.photographs import to_tensor
from gestalt.data_modules.tools.inspection import inspect
from tests.data_modules.files import pair_or_bad, picture
from tests.data_modules.tools.planted import planted

BAD = {
    1: "truncated",
    3: "missing_image",
    5: "zero_bytes",
    6: "missing_caption",
    7: "empty_caption",
    8: "caption_encoding",
    9: "truncated",
}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_every_planted_fault_is_found_with_its_reason(workers):
    bad, counted = inspect(planted(), workers=workers, image_sets={})
    assert {index: reason for index, reason, _, _ in bad} == BAD
    assert bad[0] == (1, "truncated", "a shard", "key 1")
    assert counted["images"]["width"] == {"least": 40, "median": 40, "most": 80}
    assert counted["captions"]["usable"] == 5
    assert counted["captions"]["unusable_beside_usable"] == 1
    assert counted["captions"]["words"]["most"] == 3
    assert counted["duplicates"] == {"images": {"repeats": 1}, "captions": {"repeats": 1}}


class Images(list):
    def sample(self, index):
        return {"image": self[index]}


def test_images_that_a_set_shares_with_the_source_are_counted_by_their_pixels():
    image = to_tensor(Image.open(BytesIO(picture(0))).convert("RGB"))
    others = [image.flip(0), image.reshape(3, image.shape[2], -1)]
    sets = {"mine": Images([image, *others])}
    assert inspect(planted(), workers=0, image_sets=sets)[1]["shared_images"] == {
        "mine": {"images": 3, "shared": 1}
    }


def test_inspection_flags_exactly_the_samples_that_training_cannot_read():
    source = planted()
    inspected = {
        index: reason for index, reason, _, _ in inspect(source, workers=0, image_sets={})[0]
    }
    for index in range(len(source)):
        pairs = [pair_or_bad(source, index, epoch) for epoch in range(8)]
        assert {getattr(pair, "reason", None) for pair in pairs} == {inspected.get(index)}
