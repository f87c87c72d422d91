"""The stream from tars, through loaders with workers on several ranks: nothing twice, nothing lost,
bad samples in their place.
"""

from types import SimpleNamespace

import pytest

from gestalt.data_modules.corpora.bad_samples import REASONS
from gestalt.data_modules.image_text import ImageTextDataModule
from tests.data_modules.files import opened
from tests.data_modules.tar_files import jpeg, members, write_shards, write_tar

# on 3.12 and later fork warns because torch has threads
pytestmark = [pytest.mark.filterwarnings("ignore:.*use of fork.*")]
LENGTHS, BATCH = [7, 4, 9, 1, 6], 6  # 27 samples: 4 steps an epoch, and 3 left over
FAULTS = {
    2: "zero_bytes",
    9: "missing_image",
    13: "truncated",
    20: "empty_caption",
    26: "not_an_image",
}


def read(root, *, steps, ranks=1, workers=0):
    """Each step's batches of all ranks, as a trainer of so many epochs would read them."""
    by_rank = []
    for rank in range(ranks):
        source = opened("tars", root)
        data = ImageTextDataModule(
            source, size=8, batch_size=BATCH, workers=workers, seed=0, window=2
        )
        trainer = SimpleNamespace(
            global_rank=rank,
            world_size=ranks,
            global_step=0,
            accumulate_grad_batches=1,
            limit_train_batches=1.0,
        )
        data.trainer = trainer
        loader, batches = data.train_dataloader(), []
        while len(batches) < steps:
            for batch in loader:
                batches.append(batch)
                trainer.global_step += 1
        by_rank.append(batches[:steps])
    return list(zip(*by_rank, strict=True))


def keys(batches):
    pairs = [
        zip(batch["epoch"].tolist(), batch["sample_id"].tolist(), strict=True)
        for step in batches
        for batch in step
    ]
    return [key for part in pairs for key in part]


@pytest.fixture
def clean(tmp_path):
    return write_shards(tmp_path / "clean", LENGTHS)


@pytest.fixture
def spoiled(tmp_path):
    """The same tars with planted faults."""
    (tmp_path / "spoiled").mkdir()
    start = 0
    for shard, length in enumerate(LENGTHS):
        held = []
        for name, content in members(range(start, start + length)):
            number, part = int(name[:5]), name[6:]
            fault = FAULTS.get(number)
            if fault == "missing_image" and part == "jpg":
                continue
            images = {
                "zero_bytes": b"",
                "truncated": jpeg(number, side=90)[:500],
                "not_an_image": b"<html>",
            }
            if part == "jpg":
                content = images.get(fault, content)
            elif (fault, part) == ("empty_caption", "txt"):
                content = b" "
            held.append((name, content))
        write_tar(tmp_path / "spoiled" / f"s-{shard:04d}.tar", held)
        start += length
    return tmp_path / "spoiled"


def test_three_ranks_of_two_workers_read_two_epochs_without_a_loss_or_a_repeat(clean):
    read_keys = keys(read(clean, steps=9, ranks=3, workers=2))
    assert sorted(read_keys) == [(epoch, number) for epoch in range(2) for number in range(27)]
    assert read_keys == keys(read(clean, steps=9))


def test_with_planted_faults_the_clean_samples_come_in_the_same_order_and_the_faults_are_counted(
    clean, spoiled
):
    whole, damaged = read(clean, steps=9), read(spoiled, steps=9, workers=1)
    assert keys(damaged) == keys(whole)
    counted: dict[str, int] = {}
    for (right,), (batch,) in zip(whole, damaged, strict=True):
        valid = batch["valid"]
        assert valid.tolist() == [number not in FAULTS for number in batch["sample_id"].tolist()]
        assert batch["image"][valid].equal(right["image"][valid])
        assert [text for text, good in zip(batch["text"], valid, strict=True) if good] == [
            text for text, good in zip(right["text"], valid, strict=True) if good
        ]
        for code in batch["reason"][~valid].tolist():
            counted[REASONS[code]] = counted.get(REASONS[code], 0) + 1
    assert counted == dict.fromkeys(FAULTS.values(), 2)
