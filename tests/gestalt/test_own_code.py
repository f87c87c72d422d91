"""Code of a user's own in place of a row of a table: it is chosen and hashed, and refused in a file
of others.
"""

import re
import sys
from pathlib import Path

import pytest
import torch

import gestalt
from gestalt.config.saved import load_saved
from gestalt.config.schema import config_hash, to_yaml
from gestalt.losses.build import build_loss, reading_nouns
from gestalt.models.folder import save_folder
from gestalt.models.start import build_model
from gestalt.runs.source import build_source
from gestalt.runs.training import build_terms
from gestalt.support.typed import ConfigError
from gestalt.tables import READINGS
from tests.gestalt.at_step import build_module
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import WORDS as TINY
from tests.gestalt.tiny_model import save_photo

MINE = """
from gestalt.aggregation import mean_of_parts
from gestalt.data_modules.sources.scenes import open_here
from gestalt.encoders.readings import MASKCLIP
from gestalt.losses.contrastive import contrastive_loss
from gestalt.losses.terms import Term

def median(tokens):
    return mean_of_parts(tokens)

def warm(image, text, *, logit_scale, heat=1.0, measure=False, **others):
    return contrastive_loss(image, text, logit_scale=logit_scale, measure=measure, **others)

class Alignment(Term):
    def __init__(self, parts, *, power=2):
        super().__init__()
        self.power = power

Alignment.reads_nouns = True
"""
KEYS = {
    "image.aggregation": "median",
    "text.aggregation": "median",
    "loss.name": "warm",
    "data.source": "open_here",
    "evaluation.reading": "MASKCLIP",
}
TERM = "loss.terms.python:own.mine:Alignment=0.5"
WORDS = [*(f"{key}=python:own.mine:{name}" for key, name in KEYS.items()), TERM]


def forget():
    for name in ("own", "own.mine", "own_mine"):
        sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def mine(cwd, monkeypatch):
    """A package in the working directory, which is on the path."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(cwd)])
    (cwd / "own").mkdir()
    (cwd / "own/mine.py").write_text(MINE)
    yield
    forget()


def loaded(*words):
    return tiny_config(*TINY, *words)


def test_each_choice_takes_an_object_of_a_file():
    config = loaded(*WORDS)
    model = build_model(config)
    code = sys.modules["own.mine"]
    assert model.image.aggregation is model.text.aggregation is code.median
    assert build_loss(config.loss).func is code.warm
    assert reading_nouns(config.loss) == ["python:own.mine:Alignment"]
    module = build_module(config, model, 100)
    ((name, term),) = module.terms.items()
    assert module.weights[name] == 0.5
    assert isinstance(term, code.Alignment)
    assert READINGS[config.evaluation.reading] is code.MASKCLIP
    assert type(build_source(config)) is type(build_source(loaded()))


def test_terms_whose_names_differ_in_a_dot_alone_are_both_kept(cwd):
    (cwd / "own_mine.py").write_text(MINE)
    config = loaded(TERM, TERM.replace("own.mine", "own_mine"))
    assert len(build_terms(config, build_model(config), None)) == 2


def test_a_saved_configuration_keeps_the_code_and_its_hash():
    config = loaded(*WORDS)
    Path("config.yaml").write_text(to_yaml(config))
    saved = load_saved(Path("config.yaml"))
    assert saved.loss.terms == {"python:own.mine:Alignment": 0.5}
    assert config_hash(saved) == config_hash(config)
    assert len({config_hash(loaded(*WORDS[:count])) for count in range(len(WORDS) + 1)}) == 7
    forget()
    hashes = {config_hash(loaded(TERM, *words)) for words in ([], ["loss.nouns_most=7"])}
    assert len(hashes) == 2  # it may read the nouns, which only an import would tell
    assert "own.mine" not in sys.modules


def test_a_file_of_others_runs_no_code_that_the_user_does_not_name(tmp_path):
    config = loaded(*WORDS)
    folder = save_folder(build_model(config), config, path=tmp_path / "exported", provenance={})
    run = tmp_path / "elsewhere"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/last.ckpt").touch()
    (run / "config.yaml").write_text(to_yaml(config))
    forget()
    for word in WORDS:
        for target in (folder, run):
            with pytest.raises(ConfigError, match=f"^{re.escape(word)}: .* names code"):
                gestalt.load(target, overrides=[item for item in WORDS if item != word])
    with pytest.raises(ConfigError, match="if you trust it, add ") as refused:
        gestalt.load(run)
    assert {*WORDS} < {*str(refused.value).split()}
    assert "own.mine" not in sys.modules
    model = gestalt.load(
        folder, overrides=[*WORDS[:-1], "loss.terms={python:own.mine:Alignment: 0.5}"]
    )
    assert model.segment(save_photo(tmp_path / "a.png"), ["dog", "cat"]).map.shape == (33, 50)
    started = build_model(loaded(f"start={folder}", *WORDS))
    assert torch.equal(started.eval().embed_text(["a"]), model.encoder.embed_text(["a"]))


def test_options_are_arguments_of_a_loss_and_of_a_term():
    given = [*WORDS, "loss.options.warm.heat=3.0", "loss.options.Alignment={power: 1}"]
    config = loaded(*given)
    assert build_loss(config.loss).keywords["heat"] == 3
    (term,) = build_terms(config, build_model(config), None).values()
    assert term.power == 1
    assert len({config_hash(loaded(*given[: len(WORDS) + count])) for count in range(3)}) == 3


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("loss.options.cool.heat=1", "loss.options.cool=.*no loss or term in use; .*'?warm"),
        ("loss.options.warm=3", "loss.options.warm=3: must be a mapping of arguments"),
        ("loss.options.warm.heap=1", "loss.options.warm.heap=1: no such argument; .*'heat'"),
        ("loss.options.warm.measure=true", "loss.options.warm.measure=.*: no such argument"),
        ("loss.options.Alignment.parts=1", "loss.options.Alignment.parts=1: no such argument"),
    ],
)
def test_an_option_that_nothing_takes_is_refused(word, message):
    def build():
        config = loaded(*WORDS, word)
        build_loss(config.loss)
        build_terms(config, build_model(config), None)

    with pytest.raises(ConfigError, match=message):
        build()


def test_a_misspelt_module_is_named_with_its_key():
    with pytest.raises(
        ConfigError, match=r"^loss\.name=python:owm:warm: no module owm is installed"
    ):
        loaded("loss.name=python:owm:warm")
