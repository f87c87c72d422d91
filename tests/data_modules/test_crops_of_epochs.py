"""``data.crops``: a fixed number of crops of each image, repeated over epochs; images and captions
read separately.
"""

import pytest
import torch

from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.sources import open_source
from tests.data_modules.files import write_flickr
from tests.data_modules.test_stores import KINDS, opened


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "hub_stream"])
def test_crops_repeat_over_epochs_and_captions_do_not(kind, tmp_path):
    fixed, free = opened(kind, tmp_path, crops=2), None
    assert fixed.crops == 2
    free = StoredPairs(fixed.store, size=16, seed=0, rule=fixed.rule)
    for index in range(len(fixed)):
        for epoch in range(5):
            image, caption = fixed.pair(index, epoch)
            assert torch.equal(image, free.pair(index, epoch % 2)[0])
            assert caption == free.pair(index, epoch)[1]
            assert torch.equal(fixed.image(index, epoch), image)
            assert fixed.caption(index, epoch) == caption
    assert not torch.equal(fixed.pair(0, 0)[0], fixed.pair(0, 1)[0])


def test_scenes_have_one_crop_and_a_mixture_passes_crops_to_its_parts(tmp_path):
    scenes = open_source("scenes", root=None, size=16, seed=0, limit=4, crops=3, recipe="prototype")
    assert scenes.crops == 1
    assert torch.equal(scenes.image(1, 0), scenes.pair(1, 2)[0])
    assert scenes.caption(1, 2) == scenes.pair(1, 2)[1]
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        write_flickr(root)
    parts = [{"source": "flickr", "root": str(root)} for root in roots]
    mixture = open_source("mixture", root=None, size=16, seed=0, limit=None, crops=1, parts=parts)
    assert [part.source.crops for part in mixture.parts] == [1, 1]
