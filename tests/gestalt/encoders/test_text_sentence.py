"""Text models that are refused, before any code of theirs runs."""

import json
from pathlib import Path

import pytest
import torch

from gestalt.encoders.text_sentence import read_sentence_model
from tests.gestalt.encoders.test_state_dicts import RunsCode, refused
from tests.gestalt.encoders.tiny_text import save_bert


def refusal(folder, *, names, weights):
    return refused(
        lambda: read_sentence_model(str(folder), weights=weights, layers=None), names=names
    )


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize(
    ("part", "key", "value", "words"),
    [
        (1, "path", "../elsewhere", "names '../elsewhere': a part must be in the folder"),
        (1, "path", "/elsewhere", "names '/elsewhere': a part must be in the folder"),
        (0, "type", "mine.Mine", "it is Mine, Pooling, Normalize; expected Transformer"),
        (0, "type", "mine.Transformer", "names mine.Transformer: choose a model of sentence"),
    ],
)
def test_a_text_model_of_parts_from_elsewhere_is_refused(
    part, key, value, words, weights, tmp_path
):
    folder = Path(save_bert(tmp_path))
    modules = json.loads((folder / "modules.json").read_text())
    modules[part][key] = value
    (folder / "modules.json").write_text(json.dumps(modules))
    line = refusal(folder, names="text.model", weights=weights)
    assert words in line


@pytest.mark.parametrize("weights", [True, False])
def test_a_text_model_whose_longest_text_is_a_word_is_refused(weights, tmp_path):
    folder = Path(save_bert(tmp_path))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": "x"}')
    refusal(folder, names="text.model", weights=weights)


def test_a_text_model_whose_weights_are_a_pickle_that_runs_code_is_refused(tmp_path):
    folder = Path(save_bert(tmp_path))
    (weights,) = folder.glob("**/model.safetensors")
    weights.unlink()
    torch.save({"a": RunsCode(tmp_path / "ran")}, weights.with_name("pytorch_model.bin"))
    refusal(folder, names="text.model .*only tensors are read", weights=True)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"model_args": {"weights_only": False}})
    )
    refusal(folder, names="has arguments for transformers", weights=True)
    assert not (tmp_path / "ran").exists()
