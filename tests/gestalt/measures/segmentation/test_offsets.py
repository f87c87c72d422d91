"""Corrections of the cosines that need no labels: by unlabelled images, and by the pooled image."""

import pytest
import torch
from torch.nn import functional

from gestalt.measures.dense.windows import cut_and_embed
from gestalt.measures.evaluation.prompts import ClassEmbeddings
from gestalt.measures.segmentation.callback import Segmentation
from gestalt.measures.segmentation.engine import largest_cosines, top_down, with_corrections
from gestalt.measures.segmentation.presets import top_down_protocol
from tests.gestalt.measures.stage import context
from tests.gestalt.painted import PaintedModel, blocky_label, painted, striped_label
from tests.gestalt.ranks import be_rank, run_ranks

SIZE = {"tower_size": 16, "label_set": None}
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
        return None if index == 3 else painted(blocky_label(4, 4, block=4, seed=100 + index))


def prompts(offset=None):
    mixed = functional.normalize(torch.eye(4) + 0.8 * BIASED, dim=1)
    return ClassEmbeddings(
        mixed, class_index=torch.arange(4), background=None, classes=4, offset=offset
    )


def protocol(**changes):
    return top_down_protocol("whole_square", **SIZE, **changes)


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
    label = striped_label(4, 4, block=4, seed=3)
    (image,) = top_down(model, [painted(label)], measure.prompts, measure.protocol)
    assert (image.prediction == label).float().mean() == pytest.approx(right, abs=0.01)


def test_the_image_weight_adds_the_cosine_with_the_pooled_image():
    model, given = Near(), prompts(torch.tensor([0.1, 0.0, -0.2, 0.0]))
    images = [painted(blocky_label(4, 4, block=4, seed=seed)) for seed in (1, 2)]
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
        return painted(blocky_label(4, 6, block=4, seed=100 + index))


def test_a_scored_picture_among_the_unlabelled_is_refused():
    measure = scorer(Wide(), debias="largest")
    measure.begin(Near())

    def score(seed):
        label = blocky_label(4, 6, block=4, seed=seed)
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
