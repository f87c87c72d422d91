"""A model card states measurements of exactly its weights, and the hub's own reader reads its
head.
"""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from huggingface_hub import ModelCard, metadata_load

from gestalt.__main__ import main
from gestalt.config.saved import load_saved
from gestalt.publishing.export import CardFacts, gather, measurements, write_card
from gestalt.results.result import read_result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["trainer.max_steps=2", "evaluation.limit=12", "trainer.enable_progress_bar=false"]
        assert main(["train", "clippy_dino_max", "--scale", "tiny", *words]) == 0
    return folder / "lightning_logs" / "clippy_dino_max" / "tiny" / "version_0"


@pytest.fixture
def run(tmp_path, trained):
    """Its files, with a checkpoint without weights."""
    folder = tmp_path / "version_0"
    shutil.copytree(trained, folder)
    torch.save(
        {"state_dict": {}, "global_step": 2, "gestalt": {"steps_planned": 2}},
        folder / "checkpoints" / "last.ckpt",
    )
    return folder


def gathered(folder, weights=None):
    """The facts and the records of some weights, by default those of the run's own record."""
    config = load_saved(folder / "config.yaml")
    weights = weights or read_result(folder / "result.json").record["weights_sha256"]
    provenance, results = gather(config, folder / "checkpoints" / "last.ckpt", weights=weights)
    origins = {
        tower: {"resolved": f"random {tower}", "sha256": None} for tower in ("image", "text")
    }
    facts = CardFacts(
        "a-model",
        config,
        1234,
        {"origins": origins, **provenance},
        "cc-by-4.0",
        ["org/pairs"],
    )
    return facts, results


def test_a_run_that_ends_within_an_epoch_is_scored_at_its_last_step_and_compared_with_the_best(
    trained,
):
    last, best = (trained / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    assert best.read_bytes() == last.read_bytes()
    record = read_result(trained / "result.json").record
    assert (record["steps"], record["best"]["value"]) == (
        2,
        pytest.approx(record["metrics"]["scenes/miou"]),
    )


def head_of(text, folder):
    (folder / "README.md").write_text(text)
    assert ModelCard.load(folder / "README.md").data.library_name == "gestalt"
    return metadata_load(folder / "README.md")


def test_the_head_has_licence_data_sets_and_task_for_the_hub(run, tmp_path):
    head = head_of(write_card(*gathered(run)), tmp_path)
    assert (head["license"], head["datasets"], head["pipeline_tag"]) == (
        "cc-by-4.0",
        ["org/pairs"],
        "image-segmentation",
    )


def test_the_page_has_intervals_images_and_the_facts_of_the_run(run):
    facts, results = gathered(run)
    text, record = write_card(facts, results), read_result(run / "result.json")
    interval = record.interval("scenes/jaccard")
    row = next(line for line in text.splitlines() if line.startswith("| scenes/jaccard |"))
    assert f"| [{interval.low:.3f}, {interval.high:.3f}] | " in row
    assert "blocks 0." in row
    for result, metric in measurements(results):
        assert f"| {metric} | {result.value(metric):.4f} |" in text
        assert result.entry(metric)["protocol"]["digest"] in text
    assert "none below 30 images" in text
    assert f"{record.entry('scenes/miou')['images']} of 307 images" in row
    assert "do not compare with published ones" in text
    for fact in (
        record.commit,
        record.record["data"]["digest"],
        record.record["tokens_kept"],
        facts.provenance["weights_sha256"],
    ):
        assert fact in text


def test_weights_without_a_record_have_no_results(run):
    facts, results = gathered(run, weights="0" * 64)
    assert facts.provenance["weights_sha256"] == "0" * 64
    text = write_card(facts, results)
    assert "No record was made with exactly these weights: there are no results to state." in text


def test_untrained_weights_have_no_results_even_with_a_record(run):
    torch.save({"state_dict": {}, "global_step": 0}, run / "checkpoints" / "last.ckpt")
    facts, results = gathered(run)
    text = write_card(facts, results)
    assert results == []
    assert "The weights are not trained" in text


def test_the_limits_come_from_the_records_and_name_no_folder_of_this_machine(run):
    file = run / "result.json"
    record = json.loads(file.read_text())
    record["benchmarks"][0]["protocol"] |= {"left_out": ["denseCRF"], "ours": ["the void label"]}
    why = "no folder /a/disk/my data/SegmentationObject"
    record["benchmarks"].append({"set": "voc", "left_out": "grouping", "why": why})
    file.write_text(json.dumps(record))
    facts, results = gathered(run)
    data = replace(facts.config.data, manifest="/a/disk/my data/pairs.json")
    text = write_card(facts._replace(config=replace(facts.config, data=data)), results)
    assert "Protocol whole_square leaves out a step of the original: denseCRF." in text
    assert (
        "Protocol whole_square makes a choice that the original does not state: the void label."
        in text
    )
    assert "voc: grouping was not measured, no folder SegmentationObject." in text
    assert "manifest `pairs.json`" in text
    assert "/a/disk" not in text


def test_the_limits_say_that_the_model_saw_generated_scenes_alone(run):
    facts, results = gathered(run)
    for source in ("scenes", "flickr"):
        data = replace(facts.config.data, source=source)
        config = replace(facts.config, data=data, start="image:a")
        text = write_card(facts._replace(config=config), results)
        assert "Image init requested" not in text
        assert "resolved to: `random text`." in text
        limits = text.partition("## Limits")[2].partition("## Training")[0]
        assert ("The model was trained on generated scenes alone" in limits) == (source == "scenes")
