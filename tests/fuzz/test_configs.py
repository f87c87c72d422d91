"""Configurations and overrides under any text."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gestalt.config.folders import EXPERIMENTS
from gestalt.config.saved import load_saved
from gestalt.config.schema import Experiment
from gestalt.support.typed import fields_below
from tests.fuzz.law import FUZZ, held, json_values, mutated
from tests.gestalt.tiny_config import tiny_config

KEYS = [name for name, _ in fields_below(Experiment)]
GROUPS = sorted({part for name in KEYS for part in name.split(".")})
FILES = [
    path.read_bytes()
    for path in (EXPERIMENTS / "clippy_dino_max.yaml", EXPERIMENTS / "scales" / "tiny.yaml")
]
CHARACTERS = st.text(st.sampled_from("ab:{}[],&*!|>-#'\"\n \t0.1eE_~?%@$\\"), max_size=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("configs")


@FUZZ
@given(content=mutated(*FILES) | CHARACTERS.map(str.encode))
def test_any_file(folder, content):
    (folder / "config.yaml").write_bytes(content)
    with held():
        load_saved(folder / "config.yaml")


@FUZZ
@given(content=st.dictionaries(st.sampled_from(GROUPS), json_values(*GROUPS), max_size=4))
def test_any_values_of_known_keys(folder, content):
    (folder / "values.yaml").write_text(yaml.safe_dump(content))
    with held():
        load_saved(folder / "values.yaml")


@FUZZ
@given(
    key=st.sampled_from(KEYS) | st.text(max_size=8),
    value=CHARACTERS | json_values(*GROUPS).map(str),
)
def test_any_override(key, value):
    with held():
        tiny_config("data.root=DIR", f"{key}={value}")
