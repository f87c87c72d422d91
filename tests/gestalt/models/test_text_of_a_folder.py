"""An exported folder brings the text model's architecture and tokenizer: no package, no hub, no
file of the machine that wrote it.
"""

import contextlib
import json
import shutil

import pytest
import torch

from gestalt.config.schema import config_hash
from gestalt.encoders.keys import Text
from gestalt.encoders.towers import build_text_tower
from gestalt.models.folder import load_folder, portable, read_description, save_folder
from gestalt.models.start import build_model
from tests.gestalt.encoders.tiny_text import save_bert, save_t5
from tests.gestalt.painted import random_pixels
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import WORDS

TEXTS = ["a dog on grass", "two unknown words", "", "a " * 50]


@pytest.fixture(
    params=[("bert", 2), ("t5", 1)], ids=["two layers of bert", "t5 with a Dense layer"]
)
def exported(request, tmp_path):
    """A folder whose text model has gone, and the model."""
    kind, layers = request.param
    model = (
        save_bert(tmp_path / "source", pooling="cls")
        if kind == "bert"
        else save_t5(tmp_path / "source")
    )
    words = [f"text.model={model}", "projection.width=8", f"text.layers={layers}"]
    config = tiny_config(*words)
    built = build_model(config).eval()
    save_folder(built, config, path=tmp_path / "exported", provenance={"source": f"folder {model}"})
    shutil.rmtree(tmp_path / "source")
    return tmp_path / "exported", built


def test_an_exported_folder_loads_with_equal_embeddings_without_the_original_text_model(
    exported, tmp_path
):
    folder, model = exported
    shutil.move(folder, tmp_path / "elsewhere")
    loaded = load_folder(tmp_path / "elsewhere")
    images = random_pixels(2, 3, 32, 48)
    assert torch.equal(loaded.embed_text(TEXTS), model.embed_text(TEXTS))
    assert torch.equal(loaded.embed_image(images), model.embed_image(images))
    assert torch.equal(loaded.embed_patches(images), model.embed_patches(images))
    assert (loaded.text_origin.init, loaded.text_tower.max_length) == (
        "sentence",
        model.text_tower.max_length,
    )
    # the scale's, where the experiment asks for dino
    assert loaded.image_origin.init == model.image_origin.init == "random"


def test_no_file_names_the_machine(exported, tmp_path):
    files = [path for path in exported[0].rglob("*") if path.suffix == ".json"]
    assert len(files) >= 7
    assert not [path for path in files if str(tmp_path) in path.read_text()]


def test_the_text_folder_of_an_export_is_refused_as_a_source_of_weights(exported):
    with pytest.raises(ValueError, match=r"exported/text cannot be loaded: .*(no|No such) file"):
        build_text_tower(Text(model=str(exported[0] / "text"), max_length=16))


@pytest.mark.parametrize("file", ["modules.json", "config.json", "tokenizer.json"])
def test_a_damaged_text_folder_is_refused_in_one_line(exported, file):
    (exported[0] / "text" / file).write_text("{")
    with pytest.raises(ValueError, match="text cannot be loaded: ") as raised:
        load_folder(exported[0])
    assert "\n" not in str(raised.value)


def test_a_text_folder_that_asks_to_run_its_code_runs_none(exported, tmp_path):
    folder, mark = exported[0] / "text", tmp_path / "ran"
    (folder / "evil.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Evil:\n    pass\n"
    )
    words = {
        "AutoConfig": "evil.Evil",
        "AutoModel": "evil.Evil",
        "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    }
    for name in ("config.json", "tokenizer_config.json"):
        content = {**json.loads((folder / name).read_text()), "auto_map": words}
        (folder / name).write_text(json.dumps(content))
    with contextlib.suppress(ValueError):
        load_folder(exported[0])
    assert not mark.exists()


def test_paths_and_addresses_are_cut_to_their_last_part():
    tree = {
        "a": ["/a/disk/data", "https://me:secret@host/x/{0..9}.tar"],
        "b": "checkpoint /run/last.ckpt",
        "c": 3,
        "d": "org/name",
    }
    assert portable(tree) == {
        "a": ["data", "{0..9}.tar"],
        "b": "checkpoint last.ckpt",
        "c": 3,
        "d": "org/name",
    }
    for text, cut in {
        "timm:/a/disk/dino": "timm:dino",
        "open_clip:~/my models/siglip": "open_clip:siglip",
        "exported folder /a/disk/my models/dino": "exported folder dino",
        "open_clip:hf-hub:org/name": "open_clip:hf-hub:org/name",
    }.items():
        assert portable(text) == cut


def test_cut_paths_leave_the_hash_of_the_configuration(tmp_path):
    config = tiny_config(*WORDS, f"benchmark_root={tmp_path}")
    folder = save_folder(build_model(config), config, path=tmp_path / "exported", provenance={})
    read = read_description(folder)[0]
    assert read.benchmark_root == tmp_path.name
    assert config_hash(read) == config_hash(config)
