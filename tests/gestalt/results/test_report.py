"""The page of results: whole, self-contained, with the numbers of the records."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from gestalt.__main__ import main
from gestalt.measures.evaluation.pictures import (
    EXTREMES,
    Predictions,
    ScoredImage,
    write_predictions,
)
from gestalt.models.names import RESULT
from gestalt.results.grid import read_results
from gestalt.results.plots import bars
from gestalt.results.report import confusions, write_report
from gestalt.results.result import companions, read_result
from gestalt.results.run_record import print_result
from gestalt.support.typed import ConfigError
from tests.gestalt.ablation.fake_run import leave, record
from tests.gestalt.tiny_config import tiny_config

NAMES = ["a<b", "b", "c"]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Checker(HTMLParser):
    """Every element is closed in its turn; ids and links are collected."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.alts, self.words = (
            [],
            [],
            [],
            [],
            [],
            [],
        )

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.ids += [said["id"]] if "id" in said else []
        self.links += [said["href"]] if "href" in said else []
        if tag == "img":
            self.sources.append(said["src"])
            self.alts.append(said["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += [data.strip()] if data.strip() else []


def checked(page: str) -> Checker:
    found = Checker()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def image(index: int) -> ScoredImage:
    draw = torch.Generator().manual_seed(index)
    photograph = torch.randint(0, 255, (3, 200, 300), generator=draw, dtype=torch.uint8)
    masks = torch.randint(0, 3, (2, 200, 300), generator=draw, dtype=torch.uint8)
    return ScoredImage(index, f"photo {index}", photograph, prediction=masks[0], label=masks[1])


def report(*folders) -> str:
    """The page of runs."""
    results, grids = read_results([str(folder) for folder in folders], evaluations=True)
    page = Path("report.html")
    write_report(results, page, grids=grids)
    return page.read_text()


@pytest.fixture
def run(cwd):
    """A function that leaves a run's files, of the given score and size, and returns its folder."""

    def make(score, *, size=64, version=0, more=(), **arrays):
        config = tiny_config(f"image.eval_size={size}")
        made, array = record(config, score)
        array[:] = [[50, 0, 0], [75, 50, 0], [75, 50, 0]]
        total = array.sum(axis=0)
        made["metrics"]["scenes/miou"] = 0.25
        entry = made["benchmarks"][0]
        entry["counts"]["model"] = total.tolist()
        entry["protocol"] |= {"input_size": size}
        entry |= {
            "names": NAMES,
            "iou": [0.5, 0.0, None],
            "best_images": [{"sample_id": 1, "iou": 0.75}],
            "worst_images": [{"sample_id": 0, "iou": 0.125}],
            "ignored_pixels": 17,
            "images_official": 1449,
        }
        made["benchmarks"] += more
        made["provenance"] |= {
            "python": "3.11",
            "packages": {"torch": "2"},
        }
        made |= {
            "scale": "tiny",
            "seed": 0,
            "weights_sha256": str(score),
            "overrides": ["<script>"],
        }
        folder = cwd / "lightning_logs" / "clippy_dino_max" / "tiny" / f"version_{version}"
        confusion = np.diag(total[0])
        confusion[0, 1] += 4321
        leave(folder, config, made, array, confusion=confusion, **arrays)
        kept = Predictions(tuple(NAMES), 0, images=(image(1), image(0)))
        write_predictions(folder / EXTREMES / "scenes.npz", kept)
        return folder

    return make


def test_the_closing_table_has_intervals_baselines_and_the_best_checkpoint(run, capsys):
    path = run(0.5) / RESULT
    record = json.loads(path.read_text())
    record["metrics"]["scenes/iou/dog"] = 0.5
    record["benchmarks"][0]["metric_keys"] = ["scenes/miou", "scenes/miou_constant_background"]
    record["resumed_from_step"] = 5
    record["best"] = {"checkpoint": "best.ckpt", "monitor": "scenes/miou", "value": 0.375}
    path.write_text(json.dumps(record))
    print_result(read_result(path))
    table = [
        "resumed from step 5 of 8",
        "scenes: 30 of 1449 images",
        "| metric      | value  | 95 % over images | baselines                 | best.ckpt |",
        "| ----------- | ------ | ---------------- | ------------------------- | --------- |",
        "| scenes/miou | 0.2500 | –                | constant background 0.010 | 0.3750    |",
    ]
    table += [
        "scenes/miou: no interval, 1 of 3 classes are in fewer than two of the 30 images",
    ]
    said = capsys.readouterr().out.splitlines()
    assert said == [*table, "IoU of 1 classes: in the record, or by --verbose"]
    print_result(read_result(path), verbose=True)
    assert capsys.readouterr().out.splitlines() == [*table, "scenes/iou/dog 0.5000"]
    assert "seed 0, 8 steps, resumed from step 5. Image tower from" in report(path.parent)


def test_the_page_is_valid_and_self_contained(run, monkeypatch):
    folders = run(0.6), run(0.5, version=1)
    bases = []
    monkeypatch.setattr(
        "gestalt.results.report.bars",
        lambda scores, base, **words: bases.append([*scores].index(base)) or bars(scores, **words),
    )
    page = report(*folders)
    assert bases == [0]
    assert page == report(*(folder.relative_to(Path.cwd()) for folder in folders))
    found = checked(page)
    assert "default-src 'none'; img-src data:;" in page
    assert all(source.startswith("data:image/") for source in found.sources)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert all(link.removeprefix("#") in found.ids for link in found.links)
    assert len(found.ids) == len(set(found.ids))
    assert all(found.alts)


def test_results_that_the_page_does_not_hold_are_in_its_tables_alone(run, monkeypatch):
    monkeypatch.setattr("gestalt.results.report.MAX_SECTIONS", 1)
    found = checked(report(run(0.6), run(0.5, version=1)))
    assert found.links == ["#result-0"]
    assert len(found.ids) == 1
    words = " ".join(found.words)
    assert "images from clippy_dino_max tiny version_1 on: gestalt report RESULT" in words
    Path("report.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"report\.html: exists and is not a report"):
        report(run(0.4, version=2))


def test_compare_report_and_list_import_no_torch(run):
    code = (
        "import sys; from gestalt.__main__ import main; main(['list'])\n"
        "for command in ('compare', 'report'): assert main([command, sys.argv[1]]) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code, run(0.6)]).returncode == 0


def test_it_holds_the_records_numbers_beside_their_baselines_classes_confusions_and_images(run):
    pairs = [(0, 0, 4, 50), (0, 1, 4, 25), (1, 0, 4, 25), (1, 3, 4, 25)]
    rows = np.array([(image, *pair) for image in range(30) for pair in pairs])
    folder = run(0.6, rows=rows)
    said = json.loads((folder / "result.json").read_text())
    found = checked(report(folder))
    words = " ".join(found.words)
    assert f"{said['metrics']['scenes/miou']:.3f}" in words
    assert "constant background 0.010" in words
    assert words.index("a<b 0.500") < words.index("b 0.000")  # sorted
    assert "left out: c." in words
    assert re.search(r"a<b\s+b\s+4,321", words)
    assert "photo 1: 0.750" in words
    assert "photo 0: 0.125" in words
    assert found.alts[2:5] == [
        "mIoU by distance to a border",
        "mIoU by true classes in the image",
        "pixel recall by area of the class",
    ]
    drawn = [f"photo {index}: image, prediction, truth" for index in (1, 0)]
    # the first five images lose as much as the others to each cause
    assert found.alts[5:] == [*drawn, *2 * drawn[::-1]]
    # mended first or last, it adds 1/6 and 1/4
    assert "no class 0 (0.0069), 1 (0.0069), " in words
    assert "photo 1: sample 1, 0.0069 of the share. Image" in words
    assert "a<b 26 74" in words  # the row of the matrix, without its 0
    # in the opening sentence for each headline, and above the numbers of the set
    assert words.count("30 of 1449 images") == 3
    assert "scenes mIoU 0.250 on 30 of 1449 images; scenes recall at 10 0.600 on" in words
    assert "17 ignored pixels" in words
    assert "c0ffee" in words
    assert "<script>" in words  # an override, as text


def test_scores_at_several_sizes_share_no_table(run):
    both = report(run(0.6, size=32), run(0.5, size=64, version=1))
    assert "protocol.input_size is 32 vs 64" in both
    assert "settings that differ" in both


def test_each_table_names_the_protocol_of_its_own_measure(run):
    retrieval = {
        "set": "scenes",
        "measure": "retrieval",
        "metric_keys": ["scenes/recall_at_10"],
        "images": 30,
        "protocol": {"name": "retrieval_crop", "digest": "x"},
    }
    words = " ".join(checked(report(run(0.6, more=[retrieval]))).words)
    assert "segmentation with the protocol whole_square: 30 of 1449 images" in words
    assert "retrieval with the protocol retrieval_crop: 30 images" in words


def test_a_left_out_measure_has_its_reason(run):
    left_out = {"set": "scenes", "left_out": "grouping", "why": "there is no folder x"}
    words = " ".join(checked(report(run(0.6, more=[left_out]))).words)
    assert "Left out: there is no folder x." in words


def test_confusions_are_sorted_by_size_without_correct_pixels_and_with_pixels_of_no_class():
    assert confusions(np.array([[90, 7, 3], [20, 1, 0], [0, 0, 0]]), ["x", "y", "z"]).rows == [
        ["y", "x", "20", "95.2 %"],
        ["x", "y", "7", "7.0 %"],
        ["x", "z", "3", "3.0 %"],
    ]
    assert ["x", "no class", "3", "3.0 %"] in confusions(
        np.array([[90, 7, 3], [20, 1, 0]]), ["x", "y", "no class"]
    ).rows


def test_a_metric_with_companions_is_not_a_companion_of_another():
    metrics = {
        "s/jaccard": 0.5,
        "s/jaccard_blocks": 0.2,
        "s/jaccard_with_background": 0.4,
        "s/jaccard_with_background_blocks": 0.1,
    }
    assert companions(metrics, "s/jaccard") == {"blocks": 0.2}
    assert companions(metrics, "s/jaccard_with_background") == {"blocks": 0.1}


def test_the_command_writes_a_page_and_refuses_a_folder_that_is_not_there(run, capsys):
    folder = run(0.6)
    assert main(["report", str(folder), "--output", "page.html"]) == 0
    assert "page.html" in capsys.readouterr().out
    assert main(["report", str(folder), "--output", "nowhere/page.html"]) == 2
    assert "folder nowhere not found" in capsys.readouterr().err
    assert main(["compare", str(folder), "--metric", "mio"]) == 2
    assert "did you mean 'miou'" in capsys.readouterr().err
