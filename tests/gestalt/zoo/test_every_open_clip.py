"""Published configurations of open_clip, reduced, agree with open_clip."""

import pytest
import timm
import torch

from gestalt.zoo.open_clip_towers import take_any_size
from gestalt.zoo.timm import encode_by_trunk
from tests.gestalt.zoo.every_open_clip import LARGEST, compare


@pytest.mark.parametrize("architecture", ["EVA02-B-16", "PE-Core-S-16-384", "nllb-clip-base", "ViT-SO400M-14-SigLIP-384"])
def test_a_published_configuration_pools_and_maps_as_open_clip_does(tmp_path, architecture):
    assert compare(architecture, folder=tmp_path) <= LARGEST


@pytest.mark.parametrize("name", ["eva02_base_patch16_clip_224", "vit_pe_core_base_patch16_224", "vit_base_patch16_siglip_224"])
@torch.no_grad()
def test_a_tower_built_for_one_size_takes_another_as_timm_s_dynamic_tower_does(name):
    torch.manual_seed(0)
    sizes = {"depth": 1, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
    fixed, dynamic = timm.create_model(name, **sizes).eval(), timm.create_model(name, **sizes, dynamic_img_size=True).eval()
    dynamic.load_state_dict(fixed.state_dict())
    take_any_size(fixed)
    pixels = torch.randn(1, 3, 48, 80)
    ours = encode_by_trunk(fixed, pixels, grid=(3, 5))
    theirs = dynamic.forward_features(pixels)
    torch.testing.assert_close(ours.parts, theirs[:, fixed.num_prefix_tokens :])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["MobileCLIP2-S0", "MobileCLIP-B", "ViTamin-S", "convnext_base"])
def test_a_published_configuration_with_convolutions_pools_and_maps_as_open_clip_does(tmp_path, architecture):
    assert compare(architecture, folder=tmp_path) <= LARGEST
