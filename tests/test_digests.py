"""Digests of protocols are those of commit 21ba553: records made before and after it compare."""

import json
from pathlib import Path

import pytest

from gestalt.evaluation import protocols

GOLDEN = json.loads((Path(__file__).with_name("golden") / "digests.json").read_text())
TABLES = (
    protocols.PROTOCOLS,
    protocols.GROUPING_PROTOCOLS,
    protocols.MATCHING_PROTOCOLS,
    protocols.CLASSIFICATION_PROTOCOLS,
    protocols.ROBUSTNESS_PROTOCOLS,
)


@pytest.mark.parametrize("name", GOLDEN["protocols"])
def test_the_digest_of_a_protocol_with_a_plain_reading_is_unchanged(name):
    preset, *words = name.split()
    if words:
        made = protocols.build_protocol(preset, label_set=words[0], has_background=words[1] == "with", tower_size=224)
    else:
        made = next(table[name] for table in TABLES if name in table)
    made = made.plainly() if isinstance(made, protocols.TopDownProtocol) else made  # three presets have a dense reading since
    assert made.digest() == GOLDEN["protocols"][name]
