"""The prior of the background: locations that resemble the border of the whole picture."""

import pytest
import torch

from gestalt.measures.dense.scores import cosines, side_by_side
from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.engine import top_down, unlike_border, with_corrections
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.measures.segmentation.segmented import similarity_maps
from tests.gestalt.painted import LABELS, PaintedModel, blocky_label, painted

CHANGES = {"tower_size": 16, "label_set": None, "prior": 0.3, "prior_offset": 0.2}
BACKGROUND = 1


class Deep(PaintedModel):
    """A model whose features before the projection are those of its locations, mixed."""

    def patch_tokens(self, images, *, projected):
        return torch.einsum("bdhw,de->behw", self.embed_patches(images), MIXED)


MIXED = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))


def prompts():
    return ClassEmbeddings(
        torch.eye(4), class_index=torch.arange(4), background=BACKGROUND, classes=4
    )


def by_hand(features):
    """How little each location of (D, h, w) resembles the outer ring, one at a time."""
    height, width = features.shape[1:]
    cells = {
        (row, column): features[:, row, column] / features[:, row, column].norm()
        for row in range(height)
        for column in range(width)
    }
    ring = [
        cell
        for (row, column), cell in cells.items()
        if row in (0, height - 1) or column in (0, width - 1)
    ]
    border = sum(ring) / len(ring)
    unlike = torch.stack([-(cell @ border) / border.norm() for cell in cells.values()])
    return ((unlike - unlike.mean()) / unlike.std(correction=0)).reshape(height, width)


def test_the_map_is_the_negative_cosine_with_the_mean_of_the_ring_standardised():
    features = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    for own, given in zip(unlike_border(features), features, strict=True):
        torch.testing.assert_close(own, by_hand(given))
    assert unlike_border(torch.ones(1, 3, 1, 1)).abs().max() == 0


def read_at(values, *place):
    """The value of a map between its cells, bilinearly; beyond the outer cells, theirs."""
    last = len(values) - 1
    down, across = (min(max(along, 0), last) for along in place)
    return sum(
        max(1 - abs(down - row), 0) * max(1 - abs(across - column), 0) * values[row, column]
        for row in range(last + 1)
        for column in range(last + 1)
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [(16, None, None), (16, 16, 16), (16, 8, 8), (16, 12, 2), (19, 8, 8), (19, 16, 2)],
)
def test_the_whole_picture_s_map_is_added_to_the_background_at_each_cell_s_centre(
    size, window, stride
):
    """Of 19 px, the patches of 4 px cover 16; the rest is cut off."""
    changes = {**CHANGES, "tower_size": size, "fit": "crop"}
    protocol = top_down_protocol("whole_square", **changes, window=window, stride=stride)
    (pieces,) = cut_and_embed(Deep(), [painted(blocky_label(4, 4, block=4, seed=6))], protocol)
    (own,) = with_corrections(Deep(), [pieces], prompts(), protocol)
    whole = pieces.image[None, :, :16, :16]
    unlike = unlike_border(Deep().patch_tokens(whole, projected=False))[0]
    cells = range((window or 16) // 4)
    places = [(start + 4 * cell + 2) / 4 - 0.5 for start in pieces.starts[0] for cell in cells]
    resampled = [[read_at(unlike, down, across) for across in places] for down in places]
    expected = side_by_side(cosines(pieces, prompts()), pieces)
    expected[BACKGROUND] += 0.2 - 0.3 * torch.tensor(resampled)
    torch.testing.assert_close(side_by_side(cosines(pieces, own), pieces), expected)


def test_a_prior_of_zero_changes_nothing():
    plain, none = (
        top_down_protocol("whole_square", tower_size=16, label_set=None, **changes)
        for changes in ({}, {"prior": 0.0, "prior_offset": 0.5})
    )
    assert plain.digest() == none.digest()
    images = [painted(blocky_label(4, 4, block=4, seed=7))]
    first, second = (top_down(Deep(), images, prompts(), protocol) for protocol in (plain, none))
    assert torch.equal(first[0].prediction, second[0].prediction)


def test_similarities_of_labels_have_no_prior():
    image = painted(blocky_label(4, 4, block=4, seed=8))
    plain, prior = (
        similarity_maps(
            Deep(),
            [image],
            texts=LABELS.names[:2],
            protocol=top_down_protocol("whole_square", **{**CHANGES, **changes}),
            full_size=False,
        )[0]
        for changes in ({"prior": 0.0}, {})
    )
    assert torch.equal(plain, prior)
