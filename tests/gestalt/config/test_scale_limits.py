"""A scale's limits never cut a user's data."""

import pytest

from gestalt.config.folders import EXPERIMENTS
from gestalt.config.loading import load

LIMITS = (14400, 11520)
NONE = (None, None)
CASES = {
    "the scale's data": ([], LIMITS),
    "the same source": (["data.source=scenes"], LIMITS),
    # drawn without end: the length of an epoch
    "scenes of own cut-outs": (["data.root=cutouts"], LIMITS),
    "another source": (["data.source=flickr", "data.root=photos"], NONE),
    "its own limit": (["data.source=flickr", "data.root=photos", "data.limit=9"], (9, None)),
    "a limit first": (["pretraining.limit=7", "data.source=flickr", "data.root=photos"], (None, 7)),
}


def limits(words: list[str], *, scale: str = "demo") -> tuple[int | None, int | None]:
    config = load("clippy_dino_max", scale=scale, overrides=words)
    return config.data.limit, config.pretraining.limit


@pytest.mark.parametrize(("words", "expected"), CASES.values(), ids=CASES)
def test_limits_of_a_scale_hold_for_the_data_that_it_names(words, expected):
    assert limits(words) == expected


def test_a_user_scale_keeps_its_limits_unless_its_source_or_root_is_replaced(tmp_path):
    file = tmp_path / "own.yaml"
    text = (EXPERIMENTS / "scales/demo.yaml").read_text()
    file.write_text(text.replace("source: scenes,", "source: flickr,"))
    assert limits(["data.root=photos"], scale=str(file)) == LIMITS
    file.write_text(text.replace("source: scenes,", "source: flickr, root: photos,"))
    assert limits(["data.root=photos"], scale=str(file)) == LIMITS
    assert limits(["data.root=others"], scale=str(file)) == NONE
    assert limits(["data.source=coco_captions"], scale=str(file)) == NONE
