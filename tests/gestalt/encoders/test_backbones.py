from itertools import pairwise

import pytest
import torch

from gestalt.encoders.backbones import ConvStem


@pytest.mark.parametrize("patch", [2, 16])
def test_the_stem_gives_one_vector_per_patch(patch):
    stem = ConvStem(64, patch=(patch, patch))
    assert stem(torch.zeros(1, 3, 3 * patch, 5 * patch)).shape == (1, 64, 3, 5)
    with pytest.raises(
        ValueError,
        match=r"image\.stem=conv: patches of 14 x 14 pixels .* choose image\.patch_size 2, 4, 8",
    ):
        ConvStem(64, patch=(14, 14))
    channels = [layer.out_channels for layer in stem if isinstance(layer, torch.nn.Conv2d)]
    assert channels[-2:] == [32, 64]
    assert all(2 * before == after for before, after in pairwise(channels[:-1]))


def test_the_receptive_field_of_a_token_is_centred_on_its_patch():
    """The pixels that reach a token lie around its patch, as far to each side."""
    stem = ConvStem(64, patch=(8, 8)).double()
    for layer in stem:
        if isinstance(layer, torch.nn.GroupNorm):
            layer.forward = lambda values: values  # its mean joins all pixels
    image = torch.zeros(1, 3, 72, 104, dtype=torch.float64, requires_grad=True)
    # its patch: rows 32 to 39, columns 48 to 55
    torch.autograd.backward(stem(image)[0, :, 4, 6].sum())
    seen = image.grad[0].abs().sum(dim=0) > 0
    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    assert 32 - rows.min() == rows.max() - 39 > 0
    assert 48 - columns.min() == columns.max() - 55 > 0
