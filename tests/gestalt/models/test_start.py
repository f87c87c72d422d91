"""Training from weights that exist: a run's, an exported folder's, a CLIP or SigLIP ViT's of
open_clip.
"""

import json
import re
import shutil
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from open_clip.loss import ClipLoss, SigLipLoss

import gestalt
from gestalt.__main__ import main
from gestalt.config.start import TOWERS
from gestalt.encoders.weights import weights_hash
from gestalt.models.building import without_weights
from gestalt.models.names import CHECKPOINT
from gestalt.models.opening import open_target
from gestalt.models.start import build_model, check_names, named_weights
from gestalt.tables import READINGS
from tests.gestalt.at_step import build_module, trainer_at
from tests.gestalt.models.zoo import test_open_clip
from tests.gestalt.models.zoo.hub_cache import as_hub, save_for_hub
from tests.gestalt.models.zoo.test_classifier import SMALL
from tests.gestalt.models.zoo.test_open_clip import TEXTS, images
from tests.gestalt.models.zoo.tiny_hf import save_tokenizer
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import WORDS, export, save_run, tiny

close = partial(torch.testing.assert_close, rtol=0, atol=1e-6)


def loaded(start, *words):
    """The configuration of a run that starts from ``start``."""
    return tiny_config(f"start={start}", *words, name="clip_max")


def built(*words):
    """The model of a run that starts, and its configuration."""
    config = loaded(*words)
    return build_model(config), config


SIGLIP = {
    **test_open_clip.SIGLIP,
    "vision": {
        "timm_model_name": "vit_base_patch16_siglip_224",
        "timm_pool": "map",
        "timm_proj": "none",
        "width": None,
        "layers": None,
        "head_width": None,
        "patch_size": None,
    },
    "text": {
        **test_open_clip.SIGLIP["text"],
        "vocab_size": 60,
        "mlp_ratio": 3.7,
        "norm_kwargs": {"eps": 1e-6},
        "hf_tokenizer_name": "in its folder",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
    "embed_dim": 32,
}
TANH = {"text": {**SIGLIP["text"], "act_kwargs": {"approximate": "tanh"}}}
KINDS = {
    "GELU": {},
    "QuickGELU": {"quick_gelu": True},
    "SigLIP": SIGLIP,
    "SigLIP 2": {**SIGLIP, **TANH},
}


@pytest.fixture(params=KINDS)
def saved(request, monkeypatch):
    """Writes a tiny model of a kind; timm's SigLIP is small here."""
    name, models = "vit_base_patch16_siglip_224", timm.models.vision_transformer
    options = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32}
    monkeypatch.setitem(
        timm.models._registry._model_entrypoints, name, partial(getattr(models, name), **options)
    )

    def save(folder):
        folder.mkdir()
        save_tokenizer(folder, length=20)
        return test_open_clip.saved(folder, **KINDS[request.param])

    return save


@pytest.fixture
def clip(saved, tmp_path):
    """A tiny CLIP or SigLIP of open_clip, as its library has it, its name, and a model that starts
    from it.
    """
    theirs, start = saved(tmp_path / "clip"), f"open_clip:{tmp_path}/clip"
    loss = "loss.directions=mean" if theirs.logit_bias is None else "loss.name=sigmoid"
    words = ("image.aggregation=cls", "optimizer.warmup_steps=0", loss)
    return theirs, start, *built(start, *words, "optimizer.learning_rate=1e-3")


@torch.no_grad()
def test_with_its_own_aggregation_a_start_embeds_as_before(clip):
    ours, theirs, shown = clip[2].eval(), open_target(clip[1]).model, images(size=(40, 72))
    assert ours.logit_scale == theirs.logit_scale
    assert ours.logit_bias == theirs.model.logit_bias
    texts = [*TEXTS, "", "The SKY, the dog! " * 9]
    close(ours.embed_text(texts), theirs.embed_text(texts))
    close(ours.embed_image(shown), theirs.embed_image(shown))
    if theirs.last_block().class_token:
        close(ours.class_attention(shown), theirs.class_attention(shown))
    for reading, how in product(READINGS.keys() - {"proxyclip"}, ("timm", "scale_factor")):
        options = {"reading": reading, "positions": how}
        close(ours.embed_patches(shown, **options), theirs.embed_patches(shown, **options))


def test_ten_steps_are_those_of_open_clip_s_loop(clip):
    theirs, start, ours, config = clip
    module = build_module(config, ours, total_steps=10)
    module.trainer = trainer_at(every=100, is_global_zero=False)
    optimizer = module.configure_optimizers()["optimizer"]
    groups = {True: [], False: []}
    for name, value in theirs.named_parameters():
        groups[value.ndim > 1 and "pos" not in name].append(value)
    reference = torch.optim.AdamW(
        [{"params": groups[decays], "weight_decay": 0.1 * decays} for decays in groups],
        lr=1e-3,
        betas=(0.9, 0.98),
        eps=1e-6,
    )
    words = open_clip.get_tokenizer(start.replace("open_clip", "local-dir"))(TEXTS)
    criterion = ClipLoss() if theirs.logit_bias is None else SigLipLoss()
    for step in range(10):
        shown = images().roll(step, dims=0)
        loss = module.training_step({"image": shown, "text": TEXTS, "valid_count": 3}, step)
        expected = criterion(*theirs(ours.image_tower.normalise(shown), words))
        close(loss, expected, atol=1e-5)
        for total, stepped in ((loss, optimizer), (expected, reference)):
            stepped.zero_grad()
            total.backward()
            stepped.step()
    close(ours.embed_text(TEXTS), theirs.encode_text(words, normalize=True), atol=1e-5)


def test_a_run_starts_from_another_with_a_new_aggregation_and_loss(tmp_path):
    run, exported = save_run(tmp_path), export(tmp_path / "out")
    before = tiny()[0].state_dict()
    for start in (run, run / "checkpoints/last.ckpt", exported):
        model, _ = built(start, "image.aggregation=attention", "loss.name=sigmoid")
        after = model.state_dict()
        assert after.keys() - before.keys() == {"image.aggregation.query", "logit_bias"}
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert model.text_origin.sha256 == weights_hash(tiny()[0])


@pytest.mark.parametrize("saved", ["SigLIP 2"], indirect=True)
@pytest.mark.parametrize("tower", TOWERS)
def test_a_single_tower_starts_beside_fresh_weights(saved, tower, tmp_path):
    if tower == "text":
        saved(tmp_path / "clip")
        start, words = f"text:open_clip:{tmp_path}/clip", ("image.init=random",)
        opened = open_target(f"open_clip:{tmp_path}/clip").model
        weights = named_weights(opened)
    else:
        start, words, opened = f"image:{export(tmp_path / 'out')}", WORDS, tiny()[0]
        weights = opened.state_dict()
    model, config = built(start, *words)
    state, fresh = model.state_dict(), build_model(without_weights(config)).state_dict()
    for name, value in state.items():
        assert value.equal((weights if name.startswith(f"{tower}.tower.") else fresh)[name])
    origins = {"image": model.image_origin, "text": model.text_origin}
    assert [part for part in TOWERS if origins[part].init == start] == [tower]
    assert origins[tower].sha256 == weights_hash(opened)
    kept = {f"{part}_origin": asdict(origin) for part, origin in origins.items()}
    resumed = build_model(config, save_run(tmp_path, model, config, **kept) / CHECKPOINT)
    assert {"image": resumed.image_origin, "text": resumed.text_origin} == origins


REFUSED = {  # start and overrides, and a part of the line
    "open_clip:RN50:openai": "not a plain CLIP or SigLIP ViT: vision_cfg.patch_size=None",
    "open_clip:ViT-SO400M-16-SigLIP-i18n-256:webli": "text_cfg.proj_type=none",
    "open_clip:ViT-B-16-SigLIP:wbli": "wbli is neither a tag nor a file of weights; choose",
    "open_clip:ViT-B-61:openai": "did you mean 'ViT-B-16'",
    "open_clip:ViT-B-32:openai image.width=512 text.layers=6 image.weights=x": (
        "its weights need image.width=768, text.layers=12, image.weights=null; set these, or none"
    ),
    "text:open_clip:ViT-B-32:openai image.width=16 text.layers=6": (
        "start=text:open_clip:ViT-B-32:openai: its weights need text.layers=12; set these, or none"
    ),
    "text:open_clip:ViT-B-61:openai": "did you mean 'ViT-B-16'",
    "text:classifier:resnet18": "a classifier cannot be taken as a single tower; set image.init",
    "text:text:a": "start=text:text:a: names a tower twice; write text: or image: once",
    "text:open_clip:ViT-B-16-SigLIP:webli projection.order=siglip": "needs start=open_clip:ARCHI",
    "image:open_clip:ViT-B-16-SigLIP:webli text.family=siglip": "of a SigLIP, or text: before it",
}


def test_a_start_that_does_not_fit_is_refused_in_one_line():
    for words, message in REFUSED.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            check_names(loaded(*words.split()))
    for word in ("text.family=siglip", "projection.order=siglip"):
        with pytest.raises(ValueError, match="needs start=open_clip:"):
            tiny_config(word)


@pytest.mark.parametrize("saved", ["SigLIP"], indirect=True)
def test_a_tokenizer_that_would_be_read_otherwise_is_refused(saved, tmp_path):
    saved(tmp_path / "clip")
    save_tokenizer(tmp_path / "clip", length=20, padding_side="left")
    with pytest.raises(ValueError, match="needs a fast tokenizer of transformers that pads on the"):
        built(f"open_clip:{tmp_path}/clip")


@pytest.mark.parametrize("saved", ["SigLIP"], indirect=True)
def test_a_pooled_patch_is_a_patch_of_the_shared_space_for_every_aggregation(saved, tmp_path):
    saved(tmp_path / "clip")
    model, _ = built(f"open_clip:{tmp_path}/clip", "image.aggregation=max", "loss.name=contrastive")
    assert model.logit_bias is None
    left = "; its logit bias is left out, since loss.name=contrastive has none"
    assert model.text_origin.source.endswith(left)
    patches = model.forward(images(), TEXTS, dense=True).patches
    close(patches.amax(dim=1), model.head(model.tokens(images())))
    state = model.state_dict()
    state["text.tower._extra_state"] = torch.zeros(9, dtype=torch.uint8)
    with pytest.raises(ValueError, match="its tokenizer cannot be read"):
        model.load_state_dict(state)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("saved", "start"),
    [
        ("GELU", "open_clip:clip"),
        ("SigLIP 2", "open_clip:clip"),
        ("SigLIP 2", "text:open_clip:clip"),
        ("GELU", f"classifier:{SMALL}"),
    ],
    indirect=["saved"],
)
def test_a_started_run_resumes_exports_and_loads_without_its_start(
    saved, start, tmp_path, monkeypatch
):
    monkeypatch.chdir(as_hub(tmp_path, monkeypatch))
    saved(Path("clip"))
    save_for_hub(SMALL, tmp_path)
    words = ["train", "clip_max", "--scale", "tiny", f"start={start}", "trainer.max_epochs=1"]
    words.append("loss.terms.nouns=0.1")
    assert main(words) == 0
    run = Path("lightning_logs/clip_max/tiny/version_0")
    key = "text_init" if start.startswith("text:") else "image_init"
    first = json.loads((run / "result.json").read_text())[key]
    (run / "result.json").unlink()
    shutil.rmtree("clip")
    shutil.rmtree(f"models--timm--{SMALL}")
    assert main([*words, f"resume={run / CHECKPOINT}"]) == 0
    again = json.loads((run / "result.json").read_text())
    assert again[key] == first
    assert "dog" in again["nouns"]
    assert again["supervision"]["classes_among_nouns"].endswith(" of scenes")
    assert again["resumed_from_step"] == again["steps"] > 0
    assert main(["export", str(run), "--to", "out"]) == 0
    card = Path("out/README.md").read_text()
    assert f"Started from `{start}`, SHA-256 `{first['sha256']}`" in card
    shutil.rmtree("lightning_logs")
    assert weights_hash(gestalt.load("out", "cpu").encoder) == again["weights_sha256"]
