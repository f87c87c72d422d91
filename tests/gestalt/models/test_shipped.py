"""Inits in the package: the demo starts from them, and no other architecture does."""

import json

import pytest

from gestalt.config.loading import load
from gestalt.models.building import SHIPPED
from gestalt.models.start import build_model
from gestalt.support.files import file_hash

DIGESTS = {
    "dino": "15531cf7014334b9bd2a9f92751dd6cbc6aa1e0dec84eaaecb3c847982ddfbb4",
    "supervised": "5600f1f28900826bcf159aefafd61485c7fbc81ae43e096967646a970b8dbbe7",
}
MOST_BYTES = 3_000_000


@pytest.mark.parametrize("init", DIGESTS)
def test_the_demo_starts_from_the_shipped_file(init):
    path = SHIPPED / f"demo_{init}.safetensors"
    record = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert path.stat().st_size <= MOST_BYTES
    assert record["command"] == f"gestalt pretrain --init {init} --scale demo"
    assert {"commit", "packages"} <= record["provenance"].keys()
    assert record["sha256"] == file_hash(path) == DIGESTS[init]
    origin = build_model(
        load("clippy_dino_max", scale="demo", overrides=[f"image.init={init}"])
    ).image_tower.origin
    assert (origin.init, origin.source, origin.sha256) == (
        init,
        f"shipped, {path.name}",
        DIGESTS[init],
    )


@pytest.mark.parametrize(
    "word", ["image.width=64", "image.depth=2", "image.patch_size=16", "image.stem=patch"]
)
def test_another_architecture_is_refused_with_the_command_that_makes_its_init(word):
    mend = (
        r"make weights of this architecture with `gestalt pretrain --init dino --scale demo KEYS "
        r"--to FILE`, and set image\.weights=FILE"
    )
    with pytest.raises(ValueError, match=mend):
        build_model(load("clippy_dino_max", scale="demo", overrides=[word]))
