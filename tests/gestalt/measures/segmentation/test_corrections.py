"""Corrections of the cosines that need no labels: by unlabelled images, by the pooled image, and by
a prior of the background, for locations that resemble the border of the whole picture.
"""

import pytest
import torch
from torch.nn import functional

from gestalt.measures.dense.scores import cosines, side_by_side
from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.corrections import (
    largest_cosines,
    unlike_border,
    with_corrections,
)
from gestalt.measures.segmentation.engine import top_down
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.measures.segmentation.segmented import similarity_maps
from tests.gestalt.measures.stage import context
from tests.gestalt.painted import LABELS, PaintedModel, blocky_label, painted, striped_label
from tests.gestalt.ranks import be_rank, run_ranks

BIASED = torch.tensor([0.0, 0.0, 0.5, 0.0])


class Near(PaintedModel):
    """A class, the third, whose text is near to every location."""

    lean = 0.9

    def embed_patches(self, images, **reading):
        vectors = super().embed_patches(images) + self.lean * BIASED[:, None, None]
        return functional.normalize(vectors, dim=1)

    def embed_image(self, images):
        return functional.normalize(self.embed_patches(images).mean(dim=(2, 3)), dim=1)


class Pictures:
    """Seven unlabelled pictures, the fourth of which cannot be read."""

    source = "painted"

    def __len__(self):
        return 7

    def picture(self, index):
        return None if index == 3 else painted(blocky_label(4, 4, seed=100 + index))


def prompts(bias=0.8, background=None, offset=None):
    """A prompt of each of four classes, turned towards the third by ``bias``."""
    vectors = functional.normalize(torch.eye(4) + bias * BIASED, dim=1)
    return ClassEmbeddings(vectors, torch.arange(4), background, classes=4, offset=offset)


def protocol(**changes):
    return top_down_protocol("whole_square", tower_size=16, **changes)


def by_hand(model, given):
    """The largest cosine of each prompt in each picture, one location at a time."""
    rows = []
    for image in filter(lambda image: image is not None, map(Pictures().picture, range(7))):
        cells = model.embed_patches(image[None])[0].flatten(1).T
        rows.append(
            torch.stack(
                [torch.stack([cell @ vector for cell in cells]).max() for vector in given.vectors]
            )
        )
    return torch.stack(rows).double()


def measured(pictures, *, chosen=range(7)):
    return largest_cosines(
        Near(),
        pictures,
        chosen=chosen,
        prompts=prompts(),
        protocol=protocol(debias="largest"),
    )


def test_the_correction_is_the_mean_over_pictures_of_the_largest_cosine():
    largest = measured(Pictures())
    torch.testing.assert_close(largest.mean, by_hand(Near(), prompts()).mean(dim=0))
    assert (largest.images, len(largest.seen)) == (6, 6)


def test_pictures_that_cannot_be_read_are_an_error_only_if_none_can():
    class Broken(Pictures):
        def picture(self, index):
            return None

    with pytest.raises(
        ValueError, match="debias=largest: none of the 7 unlabelled images of painted can be read"
    ):
        measured(Broken())


def scorer(pictures, **changes):
    on = context(pictures=0, unlabelled=pictures, protocol=protocol(**changes))
    return Segmentation(on)


@pytest.mark.parametrize(("debias", "right"), [("none", 0.25), ("largest", 0.94)])
def test_debiasing_corrects_a_class_that_is_near_to_everything(debias, right):
    model, measure = Near(), scorer(Pictures(), debias=debias)
    model.lean = 2.2
    measure.begin(model)
    label = striped_label(4, 4, seed=3)
    (image,) = top_down(model, [painted(label)], measure.prompts, measure.protocol)
    assert (image.prediction == label).float().mean() == pytest.approx(right, abs=0.01)


def test_the_image_weight_adds_the_cosine_with_the_pooled_image():
    model, given = Near(), prompts(offset=torch.tensor([0.1, 0.0, -0.2, 0.0]))
    images = [painted(blocky_label(4, 4, seed=seed)) for seed in (1, 2)]
    chosen_protocol = protocol(image_weight=0.25)
    pieces = cut_and_embed(model, images, protocol=chosen_protocol)
    shifted = with_corrections(model, pieces, prompts=given, protocol=chosen_protocol)
    for image, own in zip(images, shifted, strict=True):
        torch.testing.assert_close(
            own.offset, given.offset + 0.25 * given.vectors @ model.embed_image(image[None])[0]
        )
    assert with_corrections(model, pieces, prompts=given, protocol=protocol()) == [given, given]


class Wide(Pictures):
    """Pictures of another size than the protocol's."""

    def picture(self, index):
        return painted(blocky_label(4, 6, seed=100 + index))


def test_a_scored_picture_among_the_unlabelled_is_refused():
    measure = scorer(Wide(), debias="largest")
    measure.begin(Near())

    def score(seed):
        label = blocky_label(4, 6, seed=seed)
        batch = {
            "image": [painted(label)],
            "labels": {"painted": [label]},
            "sample_id": torch.tensor([0]),
            "name": ["0"],
        }
        measure.score(Near(), batch, measure.truth(batch))

    score(1)
    with pytest.raises(ValueError, match="an image of painted is among the unlabelled images too"):
        score(102)


def test_missing_unlabelled_pictures_are_reported_with_the_remedy():
    with pytest.raises(ValueError, match=r"evaluation\.unlabelled=DIR"):
        scorer(None, debias="largest").begin(Near())


class Many(Pictures):
    def __len__(self):
        return 40


def measure(rank=0):
    largest = measured(Many(), chosen=range(40))
    return {"mean": largest.mean, "images": largest.images, "seen": sorted(largest.seen)}


@pytest.mark.slow
def test_two_ranks_measure_the_same_offsets_as_one_process(tmp_path):
    alone = measure()
    for result in run_ranks(__file__, tmp_path):
        assert torch.equal(result.pop("mean"), alone["mean"])
        assert result == {key: alone[key] for key in ("images", "seen")}


if __name__ == "__main__":
    be_rank(measure)


PRIOR = {"prior": 0.3, "prior_offset": 0.2}
BACKGROUND = 1
UNBIASED = prompts(bias=0, background=BACKGROUND)


class Deep(PaintedModel):
    """A model whose features before the projection are those of its locations, mixed."""

    def patch_tokens(self, images, *, projected):
        return torch.einsum("bdhw,de->behw", self.embed_patches(images), MIXED)


MIXED = torch.randn(4, 4, generator=torch.Generator().manual_seed(3))


def unlike_border_by_hand(features):
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
        torch.testing.assert_close(own, unlike_border_by_hand(given))
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
    [(16, None, None), (19, None, None), (16, 16, 16), (16, 8, 8), (16, 12, 2), (19, 8, 8)],
)
def test_the_whole_picture_s_map_is_added_to_the_background_at_each_cell_s_centre(
    size, window, stride
):
    """Of 19 px, the patches of 4 px cover 16; the rest is cut off."""
    asked = protocol(**PRIOR, input_size=size, fit="crop", window=window, stride=stride)
    (pieces,) = cut_and_embed(Deep(), [painted(blocky_label(4, 4, seed=6))], asked)
    (own,) = with_corrections(Deep(), [pieces], UNBIASED, asked)
    whole = pieces.image[None, :, :16, :16]
    unlike = unlike_border(Deep().patch_tokens(whole, projected=False))[0]
    cells = range((window or 16) // 4)
    places = [(start + 4 * cell + 2) / 4 - 0.5 for start in pieces.starts[0] for cell in cells]
    resampled = [[read_at(unlike, down, across) for across in places] for down in places]
    expected = side_by_side(cosines(pieces, UNBIASED), pieces)
    expected[BACKGROUND] += 0.2 - 0.3 * torch.tensor(resampled)
    torch.testing.assert_close(side_by_side(cosines(pieces, own), pieces), expected)


def test_a_prior_of_zero_changes_nothing():
    plain, none = protocol(), protocol(prior=0.0, prior_offset=0.5)
    assert plain.digest() == none.digest()
    images = [painted(blocky_label(4, 4, block=4, seed=7))]
    first, second = (top_down(Deep(), images, UNBIASED, asked) for asked in (plain, none))
    assert torch.equal(first[0].prediction, second[0].prediction)


def test_similarities_of_labels_have_no_prior():
    image = painted(blocky_label(4, 4, seed=8))
    plain, prior = (
        similarity_maps(
            Deep(),
            [image],
            texts=LABELS.names[:2],
            protocol=protocol(**changes),
            full_size=False,
        )[0]
        for changes in ({}, PRIOR)
    )
    assert torch.equal(plain, prior)
