"""A configuration file may be a stranger's: it reads no environment, and is bounded."""

import pytest

from gestalt.config.loading import MOST_BYTES, load, load_saved
from gestalt.config.schema import ConfigError

ALIASES = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{name}: &{name} [*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before}]\n"
    for before, name in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {root: '${oc.env:HOME}'}", "interpolations are not supported"),
        ("data: {root: '${data.source}'}", "interpolations are not supported"),
        (ALIASES, "more than 10000 values, with YAML aliases written out"),
        ("a: &a [*a]", "more than 10000 values"),
        ("#" * (MOST_BYTES + 1), "larger than"),
        ("data: !!python/object/apply:os.system [true]", "not valid YAML"),
        ("\xff", "cannot be read"),
    ],
    ids=["environment", "interpolation", "many aliases", "an alias of itself", "size", "a tag that runs code", "not text"],
)
def test_a_harmful_or_unreadable_config_file_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        load_saved(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 10_000, "not valid YAML"),
        ("{a: " * 3000, "not valid YAML"),
        ("a: 2020-99-99", "not valid YAML: month"),
        ("a: !!int x", "not valid YAML"),
        ("a: !!timestamp x", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("seed: 1" + "0" * 400, "a number of 1329 bits"),
        ("1: 2", "1 is not a key"),
        ("data: {true: 1}", "True is not a key"),
        ('"a\\nb": 1', r"'a\\nb' is not a key"),
        ('data: {source: "a\\nb"}', "data.source=a b: "),
        ("data: {mixture: {a: 1}}", "data.mixture: must be a list"),
        ("data: {options: [1]}", "data.options: must be a mapping"),
        ("image: {inits: [a]}", "image.inits: must be a mapping"),
    ],
)
def test_odd_yaml_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_saved(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "word", ["seed=!!int x", "seed=" + "9" * 5000, "data.mixture.0.source=x", "data.root=\udce9", "A\x1e=1", "a\nb=1", "a" * 300]
)
def test_an_odd_override_is_refused_in_one_line(word):
    with pytest.raises(ConfigError) as caught:
        load("clippy_dino_max", scale="tiny", overrides=[word])
    assert len(str(caught.value).splitlines()) == 1


def test_an_override_reads_no_environment():
    with pytest.raises(ConfigError, match="interpolations are not supported"):
        load("clippy_dino_max", scale="tiny", overrides=["data.root=${oc.env:HOME}"])
