"""Digests of protocols and hashes of configurations are those of commit 21ba553: records made before and after it compare."""

import json
from pathlib import Path

import pytest

from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.evaluation import protocols

GOLDEN = json.loads((Path(__file__).with_name("golden") / "digests.json").read_text())
TABLES = (
    protocols.PROTOCOLS,
    protocols.GROUPING_PROTOCOLS,
    protocols.MATCHING_PROTOCOLS,
    protocols.CLASSIFICATION_PROTOCOLS,
    protocols.ROBUSTNESS_PROTOCOLS,
)


@pytest.mark.parametrize("name", GOLDEN["configs"])
def test_an_experiment_at_a_scale_has_the_hash_that_it_had(name):
    experiment, scale = name.split()
    config = load(experiment, scale=scale, overrides=["data.root=DIR", "benchmark_root=DIR"])
    assert config_hash(config) == GOLDEN["configs"][name]


@pytest.mark.parametrize("name", GOLDEN["protocols"])
def test_a_protocol_read_plainly_has_the_digest_that_it_had(name):
    preset, *words = name.split()
    if words:
        made = protocols.build_protocol(preset, label_set=words[0], has_background=words[1] == "with", tower_size=224)
    else:
        made = next(table[name] for table in TABLES if name in table)
    made = made.plainly() if isinstance(made, protocols.TopDownProtocol) else made  # three presets have a dense reading since
    assert made.digest() == GOLDEN["protocols"][name]
