"""Comparison of results: which share a column, which are refused and why, and intervals paired over
images.
"""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gestalt.__main__ import main
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.results.compare import METHOD, compare, differing
from gestalt.results.grid import read_results
from gestalt.results.intervals import Contribution, Interval
from gestalt.results.report import curves_over_shares, write_report
from gestalt.results.text import WRITERS
from gestalt.support.typed import ConfigError
from tests.gestalt.ablation.fake_run import counts, leave, record
from tests.gestalt.tiny_config import tiny_config


@pytest.fixture
def run(cwd):
    """A function that writes a run's files to the next version folder and returns it; its arguments
    change the record.
    """
    parent = cwd / "lightning_logs" / "clippy_dino_max" / "tiny"

    def make(score, *words, change=None, **keywords):
        config = tiny_config(*words)
        made, array = record(config, score, **keywords)
        made["scale"] = "tiny"
        if change:
            change(made, array)
        folder = parent / f"version_{len(list(parent.glob('version_*')))}"
        leave(folder, config, made, array)
        return folder

    return make


def results(*folders, **keywords):
    return read_results([str(folder) for folder in folders], **keywords)[0]


def of_miou(found, **options):
    """Compare results by their mIoU."""
    return compare(found, metrics=["miou"], **options)


CHANGES = {  # of an entry, and what the refusal says of it
    "protocol.input_size is not recorded vs 64": {
        "protocol": {"name": "whole_square", "input_size": 64, "digest": "x"}
    },
    "names is ['a', 'b', 'c'] vs ['a', 'b', 'd']": {"label_set": "abd", "names": ["a", "b", "d"]},
    "truth_pixels is ": {"counts": {"model": (2 * counts(0.4, 0).sum(axis=0)).tolist()}},
    "images_in_set is not recorded vs 45": {"images_in_set": 45},
}


@pytest.mark.parametrize(("sentence", "fields"), CHANGES.items(), ids=CHANGES)
def test_results_measured_differently_are_refused_or_put_in_separate_columns(run, sentence, fields):
    found = results(
        run(0.6), run(0.5), run(0.4, change=lambda made, _: made["benchmarks"][0].update(fields))
    )
    with pytest.raises(ConfigError) as refusal:
        of_miou(found)
    for words in (
        sentence,
        "version_0 and 1 more vs clippy_dino_max tiny version_2: ",
        "--allow-mixed",
    ):
        assert words in str(refusal.value)
    first, second = of_miou(found, allow_mixed=True).columns
    assert (list(first.scores), list(second.scores)) == (
        [found[0].label, found[1].label],
        [found[2].label],
    )
    assert second.scores[found[2].label].difference is None
    assert first.title != second.title


def under(preset):
    def change(made, array):
        protocol = top_down_protocol(preset)
        made["benchmarks"][0]["protocol"] = {**protocol.fields(), "digest": protocol.digest()}

    return change


def test_two_protocols_are_described_by_their_names_and_all_fields(run):
    pair = results(
        run(0.6, change=under("mmseg-448/tcl")), run(0.5, change=under("sclip-336/sclip"))
    )
    with pytest.raises(ConfigError) as refusal:
        compare(pair)
    text = str(refusal.value)
    # one sentence for both metrics
    assert "scenes/miou, scenes/recall_at_10 of clippy_dino_max tiny version_0 vs" in text
    assert "protocol.name is mmseg-448/tcl vs sclip-336/sclip" in text
    assert "protocol.input_size is 448 vs 336" in text
    assert "protocol.templates differs" in text
    assert "--details" in text
    assert len(text) < 1200
    titles = [column.title for column in of_miou(pair, allow_mixed=True).columns]
    assert titles == ["scenes/miou (mmseg-448/tcl)", "scenes/miou (sclip-336/sclip)"]


def corrected(made, array):
    made["benchmarks"][0]["protocol"] |= {"debias": "largest", "digest": "x"}


def test_columns_of_one_protocol_are_named_by_their_results(run):
    tuned = run(
        0.6,
        "evaluation.split=tune",
        change=lambda made, array: made["benchmarks"][0]["counts"].update(
            model=(2 * array.sum(axis=0)).tolist()
        ),
    )
    mixed = of_miou(results(tuned, run(0.5), run(0.4, change=corrected)), allow_mixed=True)
    assert [column.title for column in mixed.columns] == [
        f"scenes/miou ({result.label})" for result in mixed.results
    ]
    assert "evaluation.split is tune vs the default vs the default" in mixed.notes[0]
    assert "protocol.debias is not recorded vs not recorded vs largest" in mixed.notes[0]


def test_every_setting_that_differs_is_listed_beside_the_refusal_and_the_table(run, capsys):
    presets = ("mmseg-448/tcl", "sclip-336/sclip")
    folders = [
        str(run(score, change=under(preset)))
        for score, preset in zip((0.6, 0.5), presets, strict=True)
    ]
    (table,) = differing(results(*folders))
    assert table.title == "scenes/miou, scenes/recall_at_10: settings that differ"
    assert table.heads == (
        "setting",
        "clippy_dino_max tiny version_0",
        "clippy_dino_max tiny version_1",
    )
    keys = {row[0] for row in table.rows}
    assert {"protocol.digest", "protocol.templates", "protocol.left_out"} < keys
    for more, status in (([], 2), (["--allow-mixed", "--csv"], 0)):
        assert main(["compare", *folders, "--details", "--metric", "miou", *more]) == status
        printed = capsys.readouterr()
        assert "| protocol.stride | 224 | 112 |" in printed.err
    assert printed.out.startswith("run,path,metric")
    assert differing(results(folders[0])) == []


def evaluate(
    folder, number, *words, preset="sclip-336/sclip", checkpoint="last", known=(), **fields
):
    """Leave an evaluation of a run."""
    saved = json.loads((folder / "result.json").read_text())
    config = tiny_config()
    made, array = record(config, 0.4 - 0.1 * number)
    under(preset)(made, array)
    made["benchmarks"][0] |= fields
    made |= {
        "scale": "tiny",
        "overrides": list(words),
        "checkpoint": f"{folder}/checkpoints/{checkpoint}.ckpt",
        "weights_sha256": saved["weights_sha256"] if checkpoint == "last" else checkpoint,
        **dict(known),
    }
    name = f"evaluations/{number}"
    leave(folder, config, made, array, name=f"{name}.json", arrays=name)
    return folder / f"{name}.json"


def test_evaluations_of_one_model_share_a_column_with_rows_named_by_what_differs(run, capsys):
    folder = run(0.6, change=lambda made, _: made.update(checkpoint="checkpoints/last.ckpt"))
    words = "evaluation.protocol=mmseg-448/tcl", "evaluation.protocol=sclip-336/sclip"
    shared = ("evaluation.limit=7", "evaluation.benchmarks=[scenes]", "benchmark_root=DIR")
    evaluate(folder, 0, words[0], *shared, preset="mmseg-448/tcl")
    files = [evaluate(folder, 1, words[1], *shared), folder / "evaluations/0.json"]
    (column,) = of_miou(results(*files)).columns
    assert list(column.scores) == [words[1], words[0]]
    assert column.title == "scenes/miou"
    assert column.scores[words[0]].difference_over_images is not None
    assert main(["compare", str(folder), *map(str, files)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("| run | scenes/miou | difference to clippy_dino_max tiny version_0 |")
    assert f"\n| {words[1]} evaluation.limit=7 | " in said
    assert "The rows are one model, measured in different ways; gestalt compare --d" in said
    assert main(["report", str(folder)]) == 0
    assert "<h1>clippy_dino_max tiny version_0</h1>" in Path("report.html").read_text()
    first, second = results(*files)
    del first.record["metrics"]["scenes/recall_at_10"], first.record["metrics"]["scenes/miou"]
    second.record["metrics"]["scenes/jaccard"] = 0.5
    missing = f"{words[1]}: no result of scenes/miou, scenes/jaccard, scenes/recall_at_10."
    assert missing in compare([first, second]).notes
    # other images, other weights and another model
    files.append(evaluate(folder, 2, words[1], "evaluation.split=tune", images_in_set=45))
    with pytest.raises(ConfigError, match="images_in_set is not recorded vs 45"):
        compare(results(*files))
    best = evaluate(folder, 3, words[1], checkpoint="best")
    other = evaluate(run(0.5), 0, words[1])
    labels = ["checkpoint=last.ckpt evaluation.limit=7", "checkpoint=best.ckpt"]
    assert [one.label for one in results(files[0], best)] == labels
    assert [one.label for one in results(files[1], other)] == [
        f"clippy_dino_max tiny version_0 {words[0]} evaluation.limit=7",
        f"clippy_dino_max tiny version_1 {words[1]}",
    ]
    with pytest.raises(ConfigError, match=r"protocol\.name is mmseg-448/tcl vs sclip-336/sclip"):
        compare(results(files[1], other))


def test_shares_of_a_run_are_rows_and_a_curve_over_the_share(run):
    folder, files = run(0.6), []
    for share in (1.0, 0.25):
        known = {"interpolation": {"share": share, "start": "begun"}, "run": "a/b/version_7"}
        files.append(evaluate(folder, len(files), known=known))
    compared = compare(results(*files))
    assert compared.results[0].model == "clippy_dino_max tiny version_7"
    curves = curves_over_shares(compared)
    for column in compared.columns:
        assert list(column.scores) == ["share=1.0", "share=0.25"]
        last, first = column.scores.values()
        assert [*curves[column.title].items()] == [(0.25, first), (1.0, last)]


def calibrated(threshold, **chosen):
    def change(made, array):
        made["benchmarks"][0]["protocol"] |= {"threshold": threshold, "digest": str(threshold)}
        made["benchmarks"][0]["calibration"] = {
            "image_set": "scenes",
            "split": "tune",
            "images": 307,
            "weights_sha256": "a",
            **chosen,
        }

    return change


def test_thresholds_that_were_calibrated_alike_share_a_column_though_they_differ(run):
    found = results(run(0.6, change=calibrated(0.3)), run(0.5, change=calibrated(0.4)))
    (column,) = of_miou(found).columns
    assert column.scores[found[1].label].difference_over_images is not None
    assert "scenes was calibrated with other weights." in str(compare(found).notes)
    other = results(run(0.6, change=calibrated(0.3)), run(0.5, change=calibrated(0.3, images=9)))
    with pytest.raises(ConfigError, match=r"calibration\.images is 307 vs 9"):
        of_miou(other)
    with pytest.raises(ConfigError, match=r"calibration\.split is tune vs not recorded"):
        of_miou(results(run(0.6, change=calibrated(0.3)), run(0.5)))


def test_results_without_truth_counts_are_compared_only_for_equal_split_and_limit(run):
    def without_truth(made, array):
        made["metrics"]["scenes/iou/a"] = made["benchmarks"][0]["iou"][0]
        made["benchmarks"][0]["counts_rows"][2] = "labelled"

    for word, message in (
        ("split=tune", r"split is tune vs the default"),
        ("limit=2", r"limit is 2 vs 7"),
    ):
        found = results(
            run(0.6, f"evaluation.{word}", change=without_truth), run(0.5, change=without_truth)
        )
        for metric in ("miou", "scenes/iou/a"):
            with pytest.raises(ConfigError, match=message):
                compare(found, metrics=[metric])


def test_arrays_that_are_not_the_records_are_refused(run):
    folder = run(0.6)
    path = folder / "per_image" / "scenes.npz"
    np.savez(path, counts=np.load(path)["counts"] + 1)
    with pytest.raises(ConfigError, match=r"scenes\.npz: not the file that"):
        of_miou(results(folder))
    path.unlink()
    with pytest.raises(ConfigError, match=r"scenes\.npz: not found"):
        of_miou(results(folder))


def test_a_metric_without_an_interval_has_the_reason_in_a_note(run, monkeypatch):
    monkeypatch.setattr("tests.gestalt.ablation.fake_run.IMAGES", 29)
    table = compare(results(run(0.6), run(0.5)))
    for column in table.columns:
        base, other = column.scores.values()
        assert [base.over_images, other.over_images, other.difference_over_images] == [None] * 3
    assert other.difference == pytest.approx(-0.1)
    runs = "clippy_dino_max tiny version_0, clippy_dino_max tiny version_1"
    assert f"{runs}: no interval of scenes/miou, 29 images are fewer than 30." in table.notes
    kept = "none is computed from the arrays that were kept"
    assert f"{runs}: no interval of scenes/recall_at_10, {kept}." in table.notes
    first = table.results[0]
    bare = replace(first, record={**first.record, "arrays": {}})
    assert bare.why_no_interval("scenes/miou") == "no arrays of each image were kept"


def test_a_number_outside_of_its_own_interval_is_said(run, monkeypatch):
    monkeypatch.setattr(Contribution, "interval", lambda *_, **__: Interval(0.7, 0.8))
    table = of_miou(results(run(0.6)))
    assert "clippy_dino_max tiny version_0: scenes/miou lies outside" in table.notes[0]


def test_differing_commits_and_inits_are_noted_and_not_refused(run):
    pair = run(0.6, resolved="random"), run(0.5, resolved="random", commit="facade+changes")
    notes = of_miou(results(*pair)).notes
    assert "The code differs: commits c0ffee, facade+changes." in notes
    assert any(
        note.startswith(
            "image.init requested dino, resolved to random: clippy_dino_max tiny version_0, clippy"
        )
        for note in notes
    )


def test_unequal_or_unknown_supervision_is_noted_and_not_refused(run, capsys):
    known = dict.fromkeys(("captions", "image_labels", "masks", "tuned_with_masks"), "none")
    plain, labelled = (
        run(score, change=lambda made, _, seen=seen: made.update(supervision=known | seen))
        for score, seen in ((0.6, {}), (0.5, {"image_labels": "ImageNet"}))
    )
    pair = results(plain, labelled)
    labels = " vs ".join(result.label for result in pair)
    note = f"The supervision is unequal. {labels}: image_labels is none vs ImageNet."
    assert compare(pair).notes[-1] == note
    write_report(pair, Path("unequal.html"))
    page = Path("unequal.html").read_text()
    assert f"]). {note}</strong>" in page
    assert page.count(note) == 1
    main(["compare", str(plain), str(labelled), "--details"])
    assert "| image_labels | none | ImageNet |" in capsys.readouterr().err
    old = compare(results(run(0.6), run(0.5))).notes[-1]  # of files without the field
    assert old == f"Supervision may be unequal: {', '.join(known)} of all results are unknown."


def test_a_part_of_a_published_set_is_marked(run):
    part, whole = (
        run(0.6, change=lambda made, _: made["benchmarks"][0].update(images_official=1449)),
        run(0.6),
    )
    table = of_miou(results(part))
    assert table.columns[0].title == "scenes/miou (30 of 1449 images)"
    (line,) = csv.DictReader(io.StringIO(WRITERS["csv"]([table.table()], "")))
    assert (line["images"], line["images_official"]) == ("30", "1449")
    assert of_miou(results(whole)).columns[0].title == "scenes/miou"


def test_markdown_latex_and_csv_hold_the_same_numbers(run):
    table = of_miou(results(run(0.6), run(0.4)))
    (column,) = table.columns
    cell = column.scores["clippy_dino_max tiny version_1"]
    row = f"{cell.mean:.3f} [{cell.over_images.low:.3f}, {cell.over_images.high:.3f}]"
    written = {kind: write([table.table()], METHOD) for kind, write in WRITERS.items()}
    assert (
        f"| clippy_dino_max tiny version_1 | {row} | {cell.difference:+.3f} ["
        in written["markdown"]
    )
    assert rf"clippy\_dino\_max tiny version\_1 & {100 * cell.mean:.1f} \\" in written["latex"]
    lines = list(csv.DictReader(io.StringIO(written["csv"])))
    assert [float(line["mean"]) for line in lines] == [
        score.mean for score in column.scores.values()
    ]
    assert float(lines[1]["difference_images_low"]) == cell.difference_over_images.low
    assert set(WRITERS) == {"markdown", "latex", "csv"}


def test_a_target_is_a_json_a_folder_or_an_experiments_newest_run(run):
    first, second = run(0.6), run(0.4)
    assert [one.path for one in results(first / "result.json", second, second)] == [
        first / "result.json",
        second / "result.json",
    ]
    ((newest,), _) = read_results(["clippy_dino_max"])
    assert newest.path.parents[1] == second.parent
    with pytest.raises(
        ConfigError, match="nothing: neither a result's JSON, nor the folder of a finished run"
    ):
        read_results(["nothing"])


def test_evaluations_of_a_run_are_listed_after_it_in_order_if_requested(run):
    folder = run(0.6)
    (folder / "evaluations").mkdir()
    for number in (10, 2):
        (folder / "evaluations" / f"{number}.json").write_text((folder / "result.json").read_text())
    (folder / "evaluations" / "11.json").touch()  # claimed by an evaluation that is under way
    labels = [one.label.rpartition("version_0")[2] for one in results(folder, evaluations=True)]
    assert labels == ["", " evaluation 2", " evaluation 10"]
    assert len(results(folder)) == 1
    (folder / "result.json").unlink()
    with pytest.raises(
        ConfigError,
        match=r"holds evaluations, but no result.json of a .*such as .*10\.json",
    ):
        results(folder)
