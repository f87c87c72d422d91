"""A run of commit 21ba553 stays usable: its checkpoint evaluates to the metrics of its records, and its records compare with new ones.

``tests/golden/older_run`` is a run of scale tiny as that commit wrote it, with two evaluations.  Of its checkpoint the state of the
optimiser was dropped, and the rows of the token embedding that no class name and no caption of the validation set uses are zero; its
record has the SHA-256 of this checkpoint.
"""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from gestalt.__main__ import main
from gestalt.config.identity import config_hash
from gestalt.config.loading import load_saved

GOLDEN = Path(__file__).with_name("golden") / "older_run"
PROTOCOLS = {0: [], 1: ["evaluation.protocol=mmseg-448/tcl", "evaluation.benchmarks=[scenes]"]}


@pytest.fixture
def older_run(tmp_path, monkeypatch):
    """The run's folder, where it lay under lightning_logs."""
    monkeypatch.chdir(tmp_path)
    folder = Path("lightning_logs/clippy_dino_max/tiny/version_0")
    shutil.copytree(GOLDEN, folder)
    packed = folder / "checkpoints" / "last.ckpt.gz"
    packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def read(path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("number", PROTOCOLS)
def test_its_checkpoint_evaluates_to_the_metrics_of_its_record(older_run, number):
    assert main(["eval", str(older_run), "evaluation.limit=12", *PROTOCOLS[number]]) == 0
    before, after = (read(older_run / "evaluations" / f"{each}.json") for each in (number, 2))
    assert after["metrics"] == pytest.approx(before["metrics"], abs=2e-3)
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["config_hash"] == before["config_hash"]
    for old, new in zip(before["benchmarks"], after["benchmarks"], strict=True):
        assert new["protocol"] == old["protocol"], old["set"]


def test_its_records_compare_with_a_new_one(older_run, capsys):
    assert main(["eval", str(older_run), "evaluation.limit=12"]) == 0
    capsys.readouterr()
    targets = [str(older_run / "result.json"), *(str(older_run / "evaluations" / f"{number}.json") for number in (0, 2))]
    assert main(["compare", *targets]) == 0
    assert "scenes/miou" in capsys.readouterr().out


def test_its_configuration_has_the_hash_of_its_record():
    assert config_hash(load_saved(GOLDEN / "config.yaml")) == read(GOLDEN / "result.json")["config_hash"]


def test_an_evaluation_can_be_written_elsewhere(older_run, tmp_path, capsys):
    before = sorted(older_run.rglob("*"))
    assert (
        main(["eval", str(older_run), "evaluation.limit=12", "evaluation.benchmarks=[scenes]", "--output", str(tmp_path / "scores")]) == 0
    )
    assert sorted(older_run.rglob("*")) == before
    path = tmp_path / "scores" / "evaluations" / "0.json"
    assert read(path)["metrics"]["scenes/miou"] == pytest.approx(
        read(older_run / "evaluations" / "0.json")["metrics"]["scenes/miou"], abs=2e-3
    )
    assert main(["compare", str(path)]) == 0
    (tmp_path / "file").touch()
    assert main(["eval", str(older_run), "--output", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.slow
def test_scoring_under_several_protocols_equals_separate_evaluations(older_run):
    words = ["evaluation.limit=4", "evaluation.benchmarks=[scenes]"]
    assert main(["eval", str(older_run), "--protocols", "whole_square,sclip-336/sclip,clearclip-448/maskclip", *words]) == 0
    record = read(older_run / "protocols" / "0.json")
    assert (older_run / "protocols" / "0.png").is_file()
    for name, file in record["evaluations"].items():
        evaluation = read(older_run / file)
        assert evaluation["metrics"]["scenes/miou"] == record["miou"]["scenes"][name]["miou"]
        (entry,) = evaluation["benchmarks"]
        assert entry["protocol"]["name"] == name
        assert entry["protocol"].get("reading", "plain") == {"sclip-336/sclip": "sclip", "clearclip-448/maskclip": "values"}.get(
            name, "plain"
        )
    alone = ["evaluation.protocol=sclip-336/sclip", *words, "--output", str(older_run / "alone")]
    assert main(["eval", str(older_run), *alone]) == 0
    metrics = read(older_run / "alone" / "evaluations" / "0.json")["metrics"]
    assert metrics["scenes/miou"] == record["miou"]["scenes"]["sclip-336/sclip"]["miou"]
