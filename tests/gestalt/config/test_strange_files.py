"""Files and words that are not a configuration: each is refused in one line."""

import pytest

from gestalt.config.saved import load_saved
from gestalt.support.label_values import MAX_CLASSES
from gestalt.support.typed import ConfigError, read_values
from tests.gestalt.tiny_config import tiny_config

ALIASES = "k0: &k0 [1]\n" + "".join(
    f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]\n" for n in range(1, 6)
)
FILES = [
    (b"data: !!python/object/apply:os.system [true]", "not valid YAML"),
    (b"\xff", "cannot be read"),
    (b"[" * 10_000, "not valid YAML"),
    (b"a: &a [*a]", "not valid YAML"),
    (ALIASES.encode(), "not valid YAML: too many values"),
    (b"data: {options: {a: !!set {b}}}", "not valid YAML"),
    (b"a: " + b"9" * 5000, "not valid YAML"),
    (b"seed: 1" + b"0" * 400, "choose a number that is at least 0"),
    (b"- a\n- b\n", "holds a list; a configuration is keys with values"),
    (b"1: 2", "1: the experiment has no key"),
    (b"seed: 1\nseed: 2", "not valid YAML: seed is given twice"),
    (b'"a\\nb": 1', "a b: the experiment has no key"),
    (b'data: {source: "a\\nb"}', "data.source=a b: "),
    (b"data: {mixture: {a: 1}}", "data.mixture: must be a list"),
    (b"data: {mixture: [{root: x}]}", r"data\.mixture\[0\]\.source=: choose one of"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_a_file_that_is_not_a_configuration_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_saved(tmp_path / "config.yaml")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_holds_the_most_classes_with_twenty_phrases_each():
    first = f"0: &same {{values: [1], prompts: {[*'abcdefghijklmnopqrst']}}}\n"
    others = "".join(f"{number}: *same\n" for number in range(1, MAX_CLASSES))
    assert len(read_values(first + others)) == MAX_CLASSES


def test_a_configuration_reads_no_environment():
    with pytest.raises(
        ConfigError, match=r"interpolations such as \$\{KEY\} are not supported \(in command line\)"
    ):
        tiny_config("data.root=${oc.env:HOME}")
