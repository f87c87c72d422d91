"""Validation loaders: one an image set, lists of any sizes, padding that no metric counts."""

from typing import ClassVar

import pytest
import torch
from torch.testing import assert_close

from gestalt.data_modules.image_sets import LabelSet
from gestalt.data_modules.validation import ImageSetDataModule
from gestalt.support.label_values import IGNORE, PADDING


class Sized:
    """Seven images, each of a size and value of its own."""

    label_sets: ClassVar = {"sized": LabelSet(("nothing", "thing"), (("nothing",), ("thing",)), 0)}
    official_length = None

    def __init__(self, name="sized", *, instances=True):
        self.name = name
        self._instances = instances

    def __len__(self):
        return 7

    def sample(self, index):
        shape = (4 + index, 9 - index)
        sample = {
            "image": torch.full((3, *shape), index, dtype=torch.uint8),
            "name": f"photo {index}",
        }
        sample["labels"] = {"sized": torch.ones(shape, dtype=torch.uint8)}
        sample["captions"] = [f"the {index}th"]
        if self._instances:
            sample["instance"] = torch.full(shape, 2, dtype=torch.uint8)
        return sample


def loaders(*sets, batch_size=3, workers=0):
    data = ImageSetDataModule(sets or (Sized(),), batch_size=batch_size, workers=workers)
    return data.val_dataloader()


def test_samples_keep_their_own_sizes():
    batch = next(iter(loaders()[0]))
    assert [image.shape for image in batch["image"]] == [(3, 4, 9), (3, 5, 8), (3, 6, 7)]
    assert [label.shape for label in batch["labels"]["sized"]] == [(4, 9), (5, 8), (6, 7)]
    assert batch["name"] == ["photo 0", "photo 1", "photo 2"]
    assert batch["captions"] == [["the 0th"], ["the 1th"], ["the 2th"]]
    assert batch["sample_id"].equal(torch.tensor([0, 1, 2]))


def test_padding_has_only_ignored_labels_and_the_padding_id():
    last = list(loaders()[0])[-1]
    assert last["sample_id"].tolist() == [6, PADDING, PADDING]
    for position in (1, 2):
        assert set(last["labels"]["sized"][position].unique().tolist()) == {IGNORE}
        assert set(last["instance"][position].unique().tolist()) == {IGNORE}
        assert last["image"][position].shape[1:] == last["labels"]["sized"][position].shape
    assert last["labels"]["sized"][0].eq(1).all()


def test_classes_and_places_of_whole_images_are_numbers_and_padding_has_none():
    class Classified(Sized):
        def sample(self, index):
            return {**super().sample(index), "class_label": index % 2, "place": index // 4}

    last = list(loaders(Classified(), batch_size=4)[0])[-1]
    assert last["class_label"].tolist() == [0, 1, 0, PADDING]
    assert last["place"].tolist() == [1, 1, 1, PADDING]
    assert last["class_label"].dtype == last["place"].dtype == torch.int64


@pytest.mark.filterwarnings("ignore:.*use of fork.*")
def test_batches_do_not_depend_on_the_number_of_workers():
    for alone, shared in zip(loaders()[0], loaders(workers=2)[0], strict=True):
        assert alone["sample_id"].equal(shared["sample_id"])
        assert_close(alone["image"], shared["image"])
        assert_close(alone["labels"], shared["labels"])


@pytest.mark.parametrize(
    ("official", "limit", "lines"), [(7, None, 0), (None, None, 0), (1449, None, 1), (1449, 7, 1)]
)
def test_a_set_that_is_scored_in_part_is_described(official, limit, lines):
    images = Sized()
    images.official_length = official
    described = ImageSetDataModule([images], batch_size=1, workers=0).parts_scored(limit=limit)
    part = "sized: 7 images are scored, the official split has 1449"
    part += f" (evaluation.limit={limit}; evaluation.limit=null scores all)" * bool(limit)
    assert described == [part] * lines
