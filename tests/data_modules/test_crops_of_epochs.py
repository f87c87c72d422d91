"""``data.crops``: a fixed number of crops of each image, repeated over epochs; images and captions
read separately; mirrored and recoloured crops.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch

from gestalt.data_modules.corpora.stored_pairs import StoredPairs
from gestalt.data_modules.keys import MixturePart
from gestalt.data_modules.pixels.augment import Augmentation
from gestalt.data_modules.sources import open_source
from tests.data_modules.corpora.test_stores import KINDS, opened
from tests.data_modules.files import write_flickr


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


def test_a_crop_is_mirrored_and_recoloured_in_its_place(tmp_path):
    plain = opened("table", tmp_path)
    crops = [
        replace(plain, augmentation=Augmentation(flip=flip, colour=colour)).image(0, 1)
        for colour in (0, 0.5)
        for flip in (0, 1)
    ]
    for crop, mirrored in (crops[:2], crops[2:]):
        assert torch.equal(mirrored, crop.flip(2))
    assert not torch.equal(crops[0], crops[2])


def test_scenes_have_one_crop_and_a_mixture_passes_crops_to_its_parts(tmp_path):
    open_scenes = partial(open_source, "scenes", root=None, size=16, seed=0, limit=4)
    scenes = open_scenes(crops=3, recipe="prototype")
    assert scenes.crops == 1
    assert torch.equal(scenes.image(1, 0), scenes.pair(1, 2)[0])
    assert scenes.caption(1, 2) == scenes.pair(1, 2)[1]
    flip = Augmentation(flip=0.5)
    with pytest.raises(ValueError, match=r"data\.flip, data\.colour: source scenes draws"):
        open_scenes(augmentation=flip)
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        write_flickr(root)
    parts = [MixturePart("flickr", str(root)) for root in roots]
    mixture = open_source(
        "mixture", root=None, size=16, seed=0, limit=None, crops=1, augmentation=flip, parts=parts
    )
    for part in mixture.parts:
        assert (part.source.crops, part.source.augmentation) == (1, flip)
