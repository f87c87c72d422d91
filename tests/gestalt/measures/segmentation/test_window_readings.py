"""Readings of all windows of an image: the examples give the digits of their authors' code."""

import math
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.models.zoo.open_clip import open_model
from tests.gestalt.models.zoo.test_open_clip import saved

EXAMPLES = Path(__file__).parents[4] / "docs" / "examples"
PUBLISHED = {
    "sc_clip": [0.6193682, 0.1395137, 0.3317864, -0.5017978],
    "global_local": [-0.0202978, -0.5328349, -0.2391399, -0.2023113],
}
"""Digits of SuleBai/SC-CLIP at 0417ba9 and 2btlFe/GLA-CLIP at ba74915, run with these weights: one
location of the second of two windows.
"""


def numbers(*shape):
    """Numbers in [-1, 1] that look irregular."""
    count = torch.arange(math.prod(shape))
    return ((7 * count**2 + count) % 101 / 50 - 1).reshape(shape)


class Proxy(torch.nn.Module):
    def patch_tokens(self, images, *, projected):
        return numbers(len(images), 5, 12, 12)


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_an_example_reads_the_windows_of_an_image_as_its_authors_code(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    saved(tmp_path, vision={"image_size": 96, "patch_size": 16, "layers": 12})
    model = open_model(str(tmp_path)).model
    for parameter in model.model.visual.parameters():
        parameter.copy_(numbers(*parameter.shape) / 2)
    model.attach_proxy(Proxy())
    monkeypatch.setattr("gestalt.measures.dense.windows.PIXELS_AT_ONCE", 1)
    protocol = top_down_protocol(
        "mmseg-448",
        input_size=96,
        window=96,
        stride=48,
        vocabulary="label_set",
        reading=f"python:window_readings:{name}",
        proxy="any" if name == "global_local" else "",
    )
    model.share_passes(True)
    image = (128 + 127 * numbers(3, 96, 144)).to(torch.uint8)
    with patch.object(model, "embed_patches", wraps=model.embed_patches) as embedded:
        pieces = cut_and_embed(model, [image, image[..., :96]], protocol)
    given, options = embedded.call_args_list[0]
    assert options["starts"] == [(0, 0), (0, 48)]
    alone = model.embed_patches(*given, reading=protocol.reading)
    assert torch.equal(alone[1], pieces[0].features[0, 1]) == (name == "sc_clip")
    found = pieces[0].features[0, 1, :4, 3, 5]
    torch.testing.assert_close(found, torch.tensor(PUBLISHED[name]), atol=1e-5, rtol=0)
