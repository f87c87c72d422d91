"""Values that may not change unnoticed: digests that records are compared by, the shipped init, and
a run of commit 21ba553.

``tests/golden/older_run`` is the checkpoint of that run, of scale tiny, and its configuration.  Of
the checkpoint the state of the optimiser was dropped, and the rows of the token embedding that no
class name and no caption of the validation set uses are zero.
"""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from gestalt.config.loading import load
from gestalt.measures.classification.protocol import PROTOCOLS as CLASSIFICATION_PROTOCOLS
from gestalt.measures.grouping.protocol import PROTOCOLS as GROUPING_PROTOCOLS
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.models.start import build_model
from gestalt.runs.source import build_source
from tests.gestalt.command import run_here

OLDER_RUN = Path(__file__).with_name("golden") / "older_run"
SCORES = {
    "scenes/miou": 0.015358,
    "scenes/jaccard": 0.272422,
    "scenes/recall_at_1": 0.091667,
    "scenes_matching/matched_miou": 0.095685,
    "scenes_classification/top_5": 0.416667,
    "scenes_waterbirds/accuracy": 0.0,
}
"""Its metrics over the first 12 images of each set, as that commit computed them."""


def test_digests_of_protocols_and_scenes_and_the_shipped_init_are_unchanged(cwd):
    demo = load("clippy_dino_max", scale="demo")
    origin = build_model(demo).image_tower.origin
    digests = {
        name: top_down_protocol(name).digest()
        for name in ("whole_square", "clippy-paper", "mmseg-448", "tips-448")
    }
    digests["pca_square"] = GROUPING_PROTOCOLS["pca_square"].digest()
    digests["openai_80"] = CLASSIFICATION_PROTOCOLS["openai_80"].digest()
    digests["scenes"] = build_source(demo).digest()
    assert digests == {
        "whole_square": "4c09aeb361b7cae4",
        "clippy-paper": "2451b77f305facab",
        "mmseg-448": "081d8bae22c36afc",
        "tips-448": "dabd618c2b995b05",
        "pca_square": "df15890ff2b62480",
        "openai_80": "9a8f43698d5c4721",
        "scenes": "8c9ac896e932fa6f",
    }
    assert origin.source.startswith("shipped, ")
    assert origin.sha256 == "15531cf7014334b9bd2a9f92751dd6cbc6aa1e0dec84eaaecb3c847982ddfbb4"


@pytest.fixture
def older_run(cwd):
    """The run's folder, where it lay under lightning_logs."""
    folder = Path("lightning_logs/clippy_dino_max/tiny/version_0")
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(
        gzip.decompress((OLDER_RUN / "last.ckpt.gz").read_bytes())
    )
    shutil.copy(OLDER_RUN / "config.yaml", folder)
    return folder


def test_a_run_of_an_older_commit_loads_and_scores_as_it_did(older_run, tmp_path):
    before = sorted(older_run.rglob("*"))
    run_here(f"eval {older_run} evaluation.limit=12 --output {tmp_path / 'scores'}")
    record = json.loads((tmp_path / "scores" / "evaluations" / "0.json").read_text())
    assert {name: record["metrics"][name] for name in SCORES} == pytest.approx(SCORES, abs=2e-3)
    assert (
        record["weights_sha256"]
        == "4acaddd3200091a645033f4694796e579748e3c6f30a6e7797ace33e2c830d14"
    )
    assert record["memory_bytes"] > 10_000_000  # torch alone takes more
    assert sorted(older_run.rglob("*")) == before


@pytest.mark.slow
def test_scoring_under_several_protocols_equals_separate_evaluations(older_run):
    line = f"eval {older_run} evaluation.limit=4 evaluation.benchmarks=[scenes]"
    run_here(f"{line} --protocols whole_square,sclip-336/sclip,clearclip-448/maskclip")
    record = json.loads((older_run / "protocols" / "0.json").read_text())
    for name, file in record["evaluations"].items():
        evaluation = json.loads((older_run / file).read_text())
        assert evaluation["metrics"]["scenes/miou"] == record["miou"]["scenes"][name]["miou"]
        assert evaluation["benchmarks"][0]["protocol"]["name"] == name
    shutil.rmtree(older_run / "evaluations")
    run_here(f"{line} evaluation.protocol=sclip-336/sclip")
    metrics = json.loads((older_run / "evaluations" / "0.json").read_text())["metrics"]
    assert metrics["scenes/miou"] == record["miou"]["scenes"]["sclip-336/sclip"]["miou"]
