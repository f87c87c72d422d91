"""The stream from tars, through loaders with workers on several ranks, is that of one process."""

from types import SimpleNamespace

import pandas as pd
import pytest

from gestalt.data_modules.corpora.captions import CaptionRule
from gestalt.data_modules.image_text import ImageTextDataModule
from gestalt.data_modules.keys import Captions
from tests.data_modules.files import opened
from tests.data_modules.tar_files import write_shards

# on 3.12 and later fork warns because torch has threads
pytestmark = [pytest.mark.filterwarnings("ignore:.*use of fork.*")]
LENGTHS, BATCH = [7, 4, 9, 1, 6], 6  # 27 samples: 4 steps an epoch, and 3 left over


def read(root, *, steps, ranks=1, workers=0, start=0, **options):
    """Each step's batches of all ranks, as a trainer of so many epochs, or one that resumes at a
    step, would read them.
    """
    by_rank = []
    for rank in range(ranks):
        source = opened("tars", root, **options)
        data = ImageTextDataModule(
            source, size=8, batch_size=BATCH, workers=workers, seed=0, window=2
        )
        trainer = SimpleNamespace(
            global_rank=rank,
            world_size=ranks,
            global_step=start,
            accumulate_grad_batches=1,
            limit_train_batches=1.0,
            overfit_batches=0,
        )
        data.trainer = trainer
        loader, batches = data.train_dataloader(), []
        while len(batches) < steps - start:
            for batch in loader:
                batches.append(batch)
                trainer.global_step += 1
        by_rank.append(batches[: steps - start])
    return list(zip(*by_rank, strict=True))


def test_captions_of_a_table_are_the_same_on_any_ranks_and_after_a_resume(tmp_path):
    clean = write_shards(tmp_path / "clean", LENGTHS)
    rows = [(f"https://x.org/{n}.jpg", f"One {n}. Two {n}. Three.", f"s {n}") for n in range(27)]
    rows = pd.DataFrame(rows, columns=["url", "long", "short"]).sample(frac=0.9, random_state=0)
    rows.to_parquet(tmp_path / "captions.parquet")
    table = Captions(str(tmp_path / "captions.parquet"))
    weights = {"long": 2, "short": 1, "own": 1}
    options = {"captions": CaptionRule(part="merge3", table=table, weights=weights)}

    def texts(**where):
        batches = read(clean, steps=9, **where, **options)
        return [text for step in batches for batch in step for text in batch["text"]]

    alone = texts()
    (first,), *_ = read(clean, steps=1, **options)
    assert set(first["column"]) == {*weights}
    assert {len(text.split(".")) > 2 for text in alone} == {True, False}
    for where in ({"ranks": 2, "workers": 1}, {"ranks": 3, "workers": 2}):
        assert texts(**where) == alone
        assert texts(**where, start=5) == alone[5 * BATCH :]
