"""Batches kept for the next pass: the same values, copies of them, and only complete passes that fit are kept."""

import multiprocessing
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from data_modules.batches import PADDING
from data_modules.image_text import ImageTextDataModule
from data_modules.keeping import KeptLoader, Room, copied, size_of
from data_modules.validation import ImageSetDataModule
from tests.data_modules.test_validation import Sized


class Counted(Sized):
    """The images of ``Sized``, with the number of times that one was drawn."""

    drawn = 0

    def sample(self, index):
        self.drawn += 1
        return super().sample(index)


class Unreadable(Sized):
    """The images of ``Sized``, of which the last cannot be read."""

    def sample(self, index):
        if index == len(self) - 1:
            raise ValueError("no such image")
        return super().sample(index)


def kept_loader(images, *, room, workers=0):
    data = ImageSetDataModule([images], batch_size=3, workers=workers)
    data.room = room
    return data.val_dataloader()[0]


def plain(batches):
    """Turn tensors into lists, so that batches can be compared."""
    if isinstance(batches, torch.Tensor):
        return batches.tolist()
    if isinstance(batches, dict):
        return {key: plain(value) for key, value in batches.items()}
    return [plain(value) for value in batches] if isinstance(batches, list) else batches


@pytest.mark.parametrize("workers", [0, 1])
def test_later_passes_return_the_kept_batches(workers):
    expected = plain(list(kept_loader(Sized(), room=None)))
    loader = kept_loader(Sized(), room=Room(), workers=workers)
    assert plain(list(loader)) == expected
    assert loader.kept is not None
    assert not any(image.is_shared() for batch in loader.kept for image in batch["image"])
    for _ in range(2):
        assert plain(list(loader)) == expected


@pytest.mark.parametrize("room", [None, Room()])
def test_a_pass_that_ends_by_an_error_leaves_no_loading_process(room):
    with pytest.raises(ValueError, match="no such image") as error:  # which holds the pass, as the traceback of a command does
        list(kept_loader(Unreadable(), room=room, workers=1))
    assert not multiprocessing.active_children(), error


def test_samples_are_drawn_once_with_room_to_keep_them_and_every_pass_without():
    images = Counted()
    loader = kept_loader(images, room=Room())
    for _ in range(3):
        list(loader)
    assert images.drawn == 9  # seven, and two of padding
    again = kept_loader(images, room=None)
    for _ in range(2):
        list(again)
    assert images.drawn == 27


def test_training_keeps_batches_and_an_evaluation_does_not():
    class Nothing:
        def __len__(self):
            return 0

    validation = ImageSetDataModule([Sized()], batch_size=3, workers=0)
    assert validation.val_dataloader()[0].room is None
    data = ImageTextDataModule(Nothing(), size=1, batch_size=2, workers=0, seed=0, validation=validation)
    assert isinstance(data.val_dataloader()[0].room, Room)


def test_each_rank_keeps_its_share_of_the_batches():
    for rank in range(2):
        data = ImageSetDataModule([Sized()], batch_size=3, workers=0)
        data.trainer, data.room = SimpleNamespace(global_rank=rank, world_size=2), Room()
        loader = data.val_dataloader()[0]
        dealt = [[batch["sample_id"].tolist() for batch in loader] for _ in range(2)]
        assert dealt[0] == dealt[1] == ([[0, 1, 2], [6, PADDING, PADDING]], [[3, 4, 5], [PADDING] * 3])[rank]


def test_writing_into_a_batch_does_not_change_later_passes():
    loader = kept_loader(Sized(), room=Room())
    expected = plain(list(kept_loader(Sized(), room=None)))
    for _ in range(3):
        seen = list(loader)
        assert plain(seen) == expected
        for batch in seen:
            batch["image"][0].fill_(99)
            batch["name"].clear()


def test_the_last_batch_is_kept_before_the_iterator_is_exhausted():
    loader = kept_loader(Sized(), room=Room())
    batches = iter(loader)
    for _ in range(len(loader)):
        next(batches)
    assert loader.kept is not None
    assert len(loader.kept) == len(loader)


def test_an_interrupted_pass_keeps_no_batches_and_frees_its_room():
    images, room = Counted(), Room()
    loader = kept_loader(images, room=room)
    batches = iter(loader)
    assert len(list(islice(batches, 1))) == 1
    batches.close()
    assert (loader.kept, room.left) == (None, Room().left)
    list(loader)
    assert loader.kept is not None
    assert room.left == Room().left - sum(map(size_of, loader.kept))


def test_a_set_too_large_to_keep_is_reloaded_and_leaves_its_room_to_other_sets():
    expected = list(kept_loader(Sized(), room=None))
    size = sum(map(size_of, expected))
    room, images = Room(size - 1), Counted()
    large = kept_loader(images, room=room)
    for _ in range(2):
        assert plain(list(large)) == plain(expected)
    assert (large.kept, images.drawn, room.left) == (None, 18, size - 1)
    room.left = size
    first, second = kept_loader(Sized(), room=room), kept_loader(Sized("two"), room=room)
    list(first)
    list(second)
    assert first.kept is not None
    assert second.kept is None


def test_sizes_count_bytes_of_tensors_and_copies_keep_types():
    value = {"a": [torch.zeros(3, 5)], "b": ("word", 1)}
    assert size_of(value) > 60
    again = copied(value)
    assert isinstance(again["b"], tuple)
    assert again["b"] == value["b"]
    assert again["a"][0] is not value["a"][0]


class Numbers(Dataset):
    """Three numbers."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.tensor(index)


def test_a_loader_without_room_keeps_nothing():
    loader = KeptLoader(Numbers(), batch_size=2)
    assert [plain(batch) for batch in loader] == [plain(batch) for batch in loader] == [[0, 1], [2]]
    assert loader.kept is None
