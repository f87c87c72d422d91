from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.features import rows as module
from gestalt.features.making import write_texts
from gestalt.features.rows import Rows
from gestalt.features.texts import Index, TextReader
from gestalt.losses.contrastive import text_ids
from gestalt.tokens import Tokens

WORDS = [*"abcdefghijklmnopq"]
TEXTS = [" ".join(WORDS[: length + 1]) for length in range(0, 17, 2)]


def encoded(texts: list[str]) -> Tokens:
    """A tower of eight channels; its tokens depend on the word and its place, padding is not zero."""
    longest = max(len(text.split()) for text in texts)
    parts = torch.full((len(texts), longest, 8), 9.0)
    mask = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        for place, word in enumerate(text.split()):
            parts[row, place] = torch.randn(8, generator=torch.Generator().manual_seed(WORDS.index(word) * 100 + place))
            mask[row, place] = True
    return Tokens(None, parts, mask, grid=None)


@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize("size", [32 * 3, 2**20], ids=["captions_across_files", "one_file"])
def test_tokens_come_back_with_their_mask_and_summary(summary: bool, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", size)
    monkeypatch.setattr("gestalt.features.texts.TOGETHER", 2)
    lengths = np.array([len(text.split()) for text in TEXTS])
    index = Index(text_ids(TEXTS).numpy(), lengths, summary=int(summary))
    rows = Rows.planned("text", int(index.firsts[-1]), shape=(8,), stored="float32", computed="float32")

    def encode(texts: list[str]) -> Tokens:
        made = encoded(texts)
        first = made.parts[:, 0] * 2 if summary else None
        return made._replace(summary=first)

    assert sum(write_texts(rows, tmp_path, texts=TEXTS, index=index, encode=encode)) == rows.count
    reader = TextReader(rows, tmp_path, max_length=14)
    wanted = [TEXTS[4], TEXTS[0], TEXTS[4], TEXTS[2]]
    batch, expected = reader.read(text_ids(wanted)), encode(wanted)
    assert batch["text_features"].shape == (4, 14, 8)
    assert torch.equal(batch["text_mask"][:, :9], expected.mask)
    assert torch.equal(batch["text_features"][batch["text_mask"]], expected.parts[expected.mask])
    assert batch["text_features"][~batch["text_mask"]].abs().sum() == 0
    assert ("text_summary" in batch) == summary
    if summary:
        assert torch.equal(batch["text_summary"], expected.summary)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a caption is not in the cache"):
        reader.read(text_ids(["another"]))
