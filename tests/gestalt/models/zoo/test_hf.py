"""transformers' models are refused by their configuration where they cannot be scored, and no code
of theirs is run.
"""

import json

import huggingface_hub
import pytest
import torch

from gestalt.models.zoo.hf import open_model
from tests.gestalt.encoders.test_state_dicts import RunsCode
from tests.gestalt.models.zoo.tiny_hf import saved

REFUSED = {
    "code": (
        {"model_type": "clip", "auto_map": {"AutoModel": "mine.Model"}},
        "config.json of .* has auto_map, which would run code",
    ),
    "kernel": (
        {"model_type": "clip", "attn_implementation": "someone/kernel"},
        "has attn_implementation, which would run code",
    ),
    "no type": ({"hidden_size": 3}, "no config.json with a model_type"),
    "family": ({"model_type": "flava"}, "models of type flava are not supported; choose"),
    "one tower": (
        {"model_type": "clip", "architectures": ["CLIPVisionModel"]},
        "a CLIPVisionModel, which has no image and text embeddings",
    ),
    "captioner": (
        {"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]},
        "BlipModel or BlipForImageTextRetrieval",
    ),
    "no head": (
        {"model_type": "siglip", "vision_config": {"vision_use_head": False}},
        "no pooling head",
    ),
}


@pytest.mark.parametrize(("config", "said"), REFUSED.values(), ids=REFUSED)
def test_a_configuration_that_cannot_be_scored_is_refused_before_weights_are_read(
    tmp_path, config, said
):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"hf:.*{said}"):
        open_model(str(tmp_path))


def test_a_configuration_alone_is_refused_for_its_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(ValueError, match=r"hf:.*no file named"):
        open_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json of .* cannot be read"):
        open_model(str(tmp_path))


def test_a_repository_that_is_not_on_this_machine_is_refused_where_the_hub_cannot_be_reached(
    monkeypatch,
):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError,
        match=r"^hf:some/where: config\.json of some/where .*the hub, and HF_HUB",
    ):
        open_model("some/where")


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run_it(tmp_path):
    saved(tmp_path, kind="CLIP")
    (tmp_path / "model.safetensors").unlink()
    torch.save({"logit_scale": RunsCode(tmp_path / "ran")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="only tensors are read, never code"):
        open_model(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_code_of_a_tokenizer_or_an_image_processor_is_not_run(tmp_path):
    saved(tmp_path, kind="CLIP")
    (tmp_path / "mine.py").write_text(
        f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Mine: pass\n"
    )
    for file, code in (
        ("preprocessor_config", {"AutoImageProcessor": "mine.Mine"}),
        ("tokenizer_config", {"AutoTokenizer": ["mine.Mine", None]}),
    ):
        path = tmp_path / f"{file}.json"
        named = {"tokenizer_class": "Mine", "image_processor_type": "Mine", "auto_map": code}
        path.write_text(json.dumps(json.loads(path.read_text()) | named))
        with pytest.raises(ValueError, match=r"hf:.*"):
            open_model(str(tmp_path))
    assert not (tmp_path / "ran").exists()


@torch.no_grad()
def test_a_text_has_one_embedding_beside_any_others_whichever_side_its_tokenizer_pads(tmp_path):
    saved(tmp_path, kind="CLIP")
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "padding_side": "left"}))
    model = open_model(str(tmp_path)).model
    torch.testing.assert_close(
        model.embed_text(["a dog", "a photo of the sky"])[:1], model.embed_text(["a dog"])
    )


def test_weights_that_lack_a_tensor_are_refused_by_its_name(tmp_path):
    model = saved(tmp_path, kind="CLIP")
    state = model.state_dict()
    del state["visual_projection.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(
        ValueError,
        match=r"lack 1 tensors of CLIPModel, or differ in shape, such as visual_projection\.weight",
    ):
        open_model(str(tmp_path))


def test_the_scale_of_the_cosines_is_the_model_s(tmp_path):
    theirs = saved(tmp_path / "siglip", kind="SigLIP")
    ours = open_model(str(tmp_path / "siglip")).model
    assert ours.logit_scale == theirs.logit_scale
    theirs = saved(tmp_path / "align", kind="ALIGN")
    torch.testing.assert_close(
        open_model(str(tmp_path / "align")).model.logit_scale.exp(), 1 / theirs.temperature
    )
    saved(tmp_path / "blip", kind="BLIP retrieval")
    assert open_model(str(tmp_path / "blip")).model.logit_scale is None


@pytest.mark.parametrize("kind", ["SigLIP", "SigLIP 2"])
@torch.no_grad()
def test_a_tokenizer_that_keeps_case_and_punctuation_is_given_texts_without(tmp_path, kind):
    saved(tmp_path, kind=kind)
    loud, joined, plain = open_model(str(tmp_path)).model.embed_text(
        ["A photo, of the DOG!", "a_photo of the dog", "a photo of the dog"]
    )
    assert torch.equal(loud, plain)
    assert torch.equal(joined, plain)


def test_siglip_s_own_tokenizer_reads_a_text_whatever_its_case_and_punctuation(tmp_path):
    pieces = pytest.importorskip("sentencepiece", reason="the extra siglip is not installed")
    saved(tmp_path, kind="SigLIP")
    (tmp_path / "tokenizer.json").unlink()
    pieces.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a dog"]),
        model_prefix=tmp_path / "spiece",
        vocab_size=12,
        minloglevel=2,
    )
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer"}')
    loud, plain = open_model(str(tmp_path)).model.embed_text(
        ["A photo, of a DOG!", "a photo of a dog"]
    )
    assert torch.equal(loud, plain)
