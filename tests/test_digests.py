"""Digests of protocols and hashes of configurations are those of commit 21ba553: records made before and after it compare."""

import json
from pathlib import Path

import pytest

from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.evaluation.measures import MEASURES
from gestalt.measures.segmentation.presets import PRESETS, top_down_protocol

GOLDEN = json.loads((Path(__file__).with_name("golden") / "digests.json").read_text())
EARLIER_SIZES = ("image.train_size=64", "image.keep_tokens=1.0", "image.eval_size=64")
"""Those of the demo until it dropped tokens."""

EARLIER_DINO = (
    *("steps=500", "batch_size=64", "warmup_steps=50", "object_centred=true", "image_size=48", "global_size=32", "local_crops=2"),
    *("summary=cls", "image_weight=1", "patch_weight=0", "across_weight=0", "mask_share=0", "patch_prototypes=null"),
    "patch_centring=centre",
)
"""The demo's pretraining of DINO until its weights came with the package; docs/changes.md names these keys."""


@pytest.mark.parametrize("name", GOLDEN["configs"])
def test_the_hash_of_an_experiment_at_a_scale_is_unchanged(name):
    experiment, scale = name.split()
    earlier = [*EARLIER_SIZES, *(f"pretraining.dino.{word}" for word in EARLIER_DINO)] if scale == "demo" else []
    config = load(experiment, scale=scale, overrides=["data.root=DIR", "benchmark_root=DIR", *earlier])
    assert config_hash(config) == GOLDEN["configs"][name]


@pytest.mark.parametrize("name", GOLDEN["protocols"])
def test_the_digest_of_a_protocol_with_a_plain_reading_is_unchanged(name):
    preset, *words = name.split()
    if words:
        protocol = top_down_protocol(preset, label_set=words[0], has_background=words[1] == "with", tower_size=224).plainly()
    elif name in PRESETS:
        protocol = PRESETS[name].protocol.plainly()  # three presets have a dense reading since
    else:
        protocol = next(row.protocols[name] for row in MEASURES.values() if name in row.protocols)
    assert protocol.digest() == GOLDEN["protocols"][name]
