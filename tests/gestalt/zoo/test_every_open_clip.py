"""Published configurations of open_clip, reduced, agree with open_clip.

``python -m tests.gestalt.zoo.every_open_clip`` compares all of them.
"""

import pytest

from tests.gestalt.zoo.every_open_clip import LARGEST, compare


@pytest.mark.parametrize("architecture", ["EVA02-B-16", "PE-Core-S-16-384", "nllb-clip-base", "ViT-SO400M-14-SigLIP-384"])
def test_a_published_configuration_pools_and_maps_as_open_clip_does(tmp_path, architecture):
    assert compare(architecture, folder=tmp_path) <= LARGEST


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["MobileCLIP2-S0", "MobileCLIP-B", "ViTamin-S", "convnext_base"])
def test_a_published_configuration_with_convolutions_pools_and_maps_as_open_clip_does(tmp_path, architecture):
    assert compare(architecture, folder=tmp_path) <= LARGEST
