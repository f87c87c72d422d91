"""Rows and tokens come back from a cache's files as they were written."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.features.files import TEXTS, RowReader, TextReader, as_stored, open_rows, write_index
from gestalt.loss import text_ids


@pytest.mark.parametrize(("stored", "computed"), [("float32", "float32"), ("float32", "bfloat16"), ("float16", "float32")])
def test_rows_come_back_in_any_order_in_the_format_in_which_they_were_computed(stored: str, computed: str, tmp_path: Path) -> None:
    content = torch.randn(8, 3, 2, generator=torch.Generator().manual_seed(0)).to(getattr(torch, computed))
    file = open_rows(tmp_path / "rows.npy", stored=stored, shape=(8, 3, 2))
    file[:5] = as_stored(content[:5], stored=stored)
    file.flush()
    file = open_rows(tmp_path / "rows.npy", stored=stored, shape=(8, 3, 2), resumed=True)
    file[5:] = as_stored(content[5:], stored=stored)
    file.flush()
    order = np.array([7, 0, 3, 3, 5])
    reader = RowReader(tmp_path / "rows.npy", computed=computed)
    rows = reader.read(order)
    assert rows.dtype == content.dtype
    torch.testing.assert_close(rows, content[order], rtol=0, atol=0 if stored == "float32" else 2e-3)
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read(order), rows)
    assert len(pickle.dumps(reader)) < 1000


def test_values_beyond_float16_are_refused() -> None:
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="float16 cannot hold; choose --dtype float32"):
        as_stored(torch.tensor([1e6]), stored="float16")


@pytest.mark.parametrize("summary", [False, True])
def test_tokens_come_back_with_their_mask_and_summary(summary: bool, tmp_path: Path) -> None:
    texts = ["a", "a b c", "a b c d e", "a b c d e f g h i"]
    lengths = np.array([len(text.split()) for text in texts])
    firsts = write_index(tmp_path, ids=text_ids(texts).numpy(), lengths=lengths, summary=summary, computed="float32")
    content = torch.randn(int(firsts[-1]), 8, generator=torch.Generator().manual_seed(0))
    open_rows(tmp_path / TEXTS, stored="float32", shape=tuple(content.shape))[:] = content.numpy()
    reader = TextReader(tmp_path, max_length=14)
    wanted = [3, 0, 3, 2]
    batch = reader.read(text_ids([texts[number] for number in wanted]))
    assert batch["text_features"].shape == (4, 14, 8)
    assert batch["text_mask"].sum(dim=1).tolist() == [9, 1, 9, 5]
    assert batch["text_features"][~batch["text_mask"]].abs().sum() == 0
    for row, number in enumerate(wanted):
        own = content[firsts[number] : firsts[number + 1]]
        assert torch.equal(batch["text_features"][row, : lengths[number]], own[int(summary) :])
        if summary:
            assert torch.equal(batch["text_summary"][row], own[0])
    assert ("text_summary" in batch) == summary
    with pytest.raises(ValueError, match="a caption is not in the cache"):
        reader.read(text_ids(["another"]))
