"""Finding and loading sentence-transformers models, on tiny ones written to disk."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gestalt.encoders.text import SentenceTower
from gestalt.encoders.text_sentence import read_sentence_model
from tests.gestalt.encoders.tiny_text import save_bert, save_t5, sentence


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "bert": save_bert(tmp_path_factory.mktemp("bert")),
        "t5": save_t5(tmp_path_factory.mktemp("t5")),
    }


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_fewer_layers_are_the_first_ones(folders, name):
    whole, cut = (
        sentence(folders[name]).state_dict(),
        sentence(folders[name], layers=2).state_dict(),
    )
    assert len(cut) < len(whole)
    for key, value in cut.items():
        assert torch.equal(value, whole[key])


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_random_init_keeps_the_architecture_and_draws_all_weights_from_the_seed(folders, name):
    torch.manual_seed(3)
    first = sentence(folders[name], init="random").state_dict()
    torch.manual_seed(3)
    again = sentence(folders[name], init="random").state_dict()
    trained = sentence(folders[name]).state_dict()
    assert first.keys() == trained.keys()
    for key, value in first.items():
        assert torch.equal(value, again[key])
        # norms and biases start at 1 and 0
        constant = value.unique().numel() == 1 or key.endswith("position_ids")
        assert constant or not torch.equal(value, trained[key])


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_an_architecture_without_weights_is_the_one_that_the_library_loads(folders, tmp_path, name):
    folder = shutil.copytree(folders[name], tmp_path / name)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 16, "do_lower_case": True})
    )
    loaded = read_sentence_model(str(folder), weights=True, layers=None)
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    fresh = read_sentence_model(str(folder), weights=False, layers=None)
    for first, second in zip(
        (loaded.encoder, *loaded.parts), (fresh.encoder, *fresh.parts), strict=True
    ):
        assert type(first) is type(second)
        shapes = {key: value.shape for key, value in first.state_dict().items()}
        assert shapes == {key: value.shape for key, value in second.state_dict().items()}
    assert fresh.tokenizer.model_max_length == loaded.tokenizer.model_max_length == 16
    assert fresh.tokenizer("A Dog")["input_ids"] == loaded.tokenizer("A Dog")["input_ids"]


def test_origin_records_the_init_and_the_source_of_the_weights(folders):
    used, fresh = sentence(folders["bert"]).origin, sentence(folders["bert"], init="random").origin
    assert (used.init, used.source) == ("sentence", f"folder {folders['bert']}")
    assert (fresh.init, fresh.source) == (
        "random",
        f"architecture of folder {folders['bert']}, fresh weights",
    )


def test_a_model_that_lowers_the_case_does_so_after_an_export_too_and_a_prompt_is_refused(tmp_path):
    folder = Path(save_bert(tmp_path))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 16, "do_lower_case": True})
    )
    tower = sentence(str(folder), max_length=16)
    assert isinstance(tower, SentenceTower)
    tower.save(tmp_path / "saved")
    for read in (tower, sentence(str(tmp_path / "saved"), max_length=16, init="random")):
        assert read.tokenise(["A Dog " * 9]) == tower.tokenise(["a dog " * 9])
    with pytest.raises(ValueError, match="reads 1 to 16 tokens"):
        sentence(str(tmp_path / "saved"), init="random")
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"q": "find: "}, "default_prompt_name": "q"})
    )
    with pytest.raises(ValueError, match="it puts its prompt 'q' before each text"):
        sentence(str(folder))


def test_a_hub_model_is_fetched_once_and_read_from_the_cache(monkeypatch, folders):
    import huggingface_hub

    asked: list[str] = []

    def cached(name: str, **_: Any) -> str:
        asked.append(name)
        return folders["t5"]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert sentence("somebody/tiny-t5").origin.source == "hub somebody/tiny-t5 at model"
    assert asked == ["somebody/tiny-t5"]


def test_refuses_a_dense_layer_that_does_not_commute_with_the_mean(tmp_path):
    with pytest.raises(
        ValueError,
        match="has a Dense layer with Tanh: only Identity can act on tokens as on their mean",
    ):
        sentence(save_t5(tmp_path, activation=nn.Tanh()))
