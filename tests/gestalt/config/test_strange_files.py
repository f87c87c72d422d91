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
def test_what_a_strangers_file_could_do_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        load_saved(path)


def test_an_override_reads_no_environment():
    with pytest.raises(ConfigError, match="interpolations are not supported"):
        load("clippy_dino_max", scale="tiny", overrides=["data.root=${oc.env:HOME}"])
