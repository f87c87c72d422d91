"""segment and group: which pictures are taken, in which order, what is written, what is refused."""

import csv
import json
import os
import re
import shutil
from functools import partial
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gestalt
from gestalt.__main__ import parse
from gestalt.commands.pictures import model_folders, pictures_of, result_names
from gestalt.measures.evaluation.pictures import label_colours
from gestalt.support.typed import ConfigError
from tests.gestalt.command import run_here
from tests.gestalt.tiny_model import export, save_photo

SEGMENT = "segment --labels 'dog, cat, grass' --model exported"
GROUP = "group --model exported"


@pytest.fixture(autouse=True)
def _there(cwd):
    export(cwd / "exported")
    (cwd / "frames").mkdir()
    for name in ("frame10.png", "frame2.jpg", "frame1.png"):
        save_photo(cwd / "frames" / name)
    (cwd / "frames" / "notes.txt").write_text("not a picture")


def names(*words: str) -> list[str]:
    return [path.name for path in pictures_of(words)]


def test_a_folder_and_a_pattern_give_their_pictures_in_natural_order():
    assert names("frames") == ["frame1.png", "frame2.jpg", "frame10.png"]
    assert names("frames/*.png") == ["frame1.png", "frame10.png"]
    assert names("**/*.jpg") == ["frame2.jpg"]


def test_a_picture_named_by_two_arguments_is_used_once():
    assert names("frames/frame10.png", "frames", "./frames/../frames/frame1.png") == [
        "frame10.png",
        "frame1.png",
        "frame2.jpg",
    ]


def test_a_word_that_names_code_among_the_pictures_is_an_override():
    arguments = parse(
        ["group", "--model=exported", "--html=x.html", "frames", "image.family=python:towers:Mine"]
    )
    work = arguments.module.check(arguments)
    assert work.overrides == ["image.family=python:towers:Mine"]
    assert [path.name for path in work.pictures] == names("frames")


def test_results_are_named_after_the_picture_and_its_folder_where_names_repeat():
    assert result_names([Path("a/x.jpg"), Path("b/y.jpg")]) == ["x", "y"]
    assert result_names([Path("a/x.jpg"), Path("b/x.jpg")]) == ["a/x", "b/x"]
    assert result_names([Path("a/x.jpg"), Path("a/x.png")]) == ["x_jpg", "x_png"]
    with pytest.raises(ConfigError, match="another picture would have the same name"):
        result_names([Path("a/x.jpg"), Path("a/x.jpg")])


def test_several_models_have_a_folder_each():
    assert model_folders(["run"], to=Path("out")) == [Path("out")]
    assert model_folders(["a/b", "timm:x"], to=Path("out")) == [Path("out/a_b"), Path("out/timm_x")]
    with pytest.raises(ConfigError, match="a model is repeated"):
        model_folders(["a/b", "a/b"], to=Path("out"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"{SEGMENT} none.jpg",
            "none.jpg: no such file; name a picture, a folder of pictures or a pattern",
        ),
        (f"{SEGMENT} *.gif", "*.gif: no such file; name a picture, a folder of pictures or a pat"),
        (f"{SEGMENT} exported", "exported: no picture in this folder"),
        (
            f"{SEGMENT} frames",
            "3 pictures, 1 models: name a folder for the results with --to DIR, or a page with "
            "--html FILE",
        ),
        (f"{SEGMENT} frames --output x.png", "--output x.png: for one picture and one model"),
        (
            f"{SEGMENT} frames --html x.png",
            "--html x.png: name a file that ends in .html",
        ),
        (f"{SEGMENT} frames --html none/x.html", "--html none/x.html: folder none not found"),
        (f"{SEGMENT} frames --to frames/notes.txt", "--to frames/notes.txt: not a folder"),
        (
            f"{SEGMENT} frames/frame1.png --npy",
            "--npy: arrays are written into the folder of --to DIR",
        ),
        (
            f"{SEGMENT} frames/frame1.png --groups 3",
            "--groups 3: segment shows groups on the page of --html FILE",
        ),
        (
            f"{SEGMENT} frames/frame1.png --threshold 2",
            "threshold is 2.0, a cosine is in",
        ),
        (
            "segment frames --labels dog --model x",
            '--labels "dog": every pixel would have the only label; name another',
        ),
        ("segment frames --labels , --model x", '--labels ",": name at least one'),
        ("segment frames/frame1.png --labels dog,dog --model exported", "a label is repeated"),
        ("segment frames --labels dog,\udcff --model x", r"--labels 'dog,\udcff': not UTF-8"),
        (
            f"{GROUP} frames/frame1.png --groups 255",
            "choose 1 to 254",
        ),
        (
            "group frames --model x --protocol kmeans",
            "--protocol kmeans: unknown; did you mean 'kmeans_square'",
        ),
    ],
)
def test_an_invalid_command_is_refused_in_one_line_before_any_work(
    line, message, tmp_path, refusal
):
    before = sorted(tmp_path.rglob("*"))
    assert message in refusal(line)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_picture_has_an_overlay_of_its_size_a_map_with_a_palette_and_numbers(capsys):
    Image.new("RGB", (20, 40), (200, 30, 0)).save("frames/frame1.png")
    run_here(f"{SEGMENT} frames --to out --npy")
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[0]) == (
        "out\n",
        "frames: files left out, which are no pictures: 1",
    )
    assert len(list(Path("out").iterdir())) == 3 * 4 + 2
    for file, size in (
        ("frame1.png", (20, 40)),
        ("frame2.jpg", (50, 33)),
        ("frame10.png", (50, 33)),
    ):
        name = file.partition(".")[0]
        with (
            Image.open(f"out/{name}_labels_overlay.png") as overlay,
            Image.open(f"out/{name}_labels.png") as indexed,
        ):
            assert (overlay.size, indexed.size, indexed.mode) == (size, size, "P")
            values = np.load(f"out/{name}_labels.npy")
            assert np.array_equal(np.asarray(indexed), values)
            assert (
                indexed.getpalette()[:9]
                == label_colours(["dog", "cat", "grass"]).flatten().tolist()
            )
            assert indexed.getpalette()[-3:] == [224, 224, 192]
        entry = json.loads(Path(f"out/{name}_labels.json").read_text())
        assert (entry["picture"], entry["width"], entry["height"]) == (f"frames/{file}", *size)
        assert [row["name"] for row in entry["labels"]] == ["dog", "cat", "grass"]
        assert [row["area"] for row in entry["labels"]] == pytest.approx(
            [(values == index).mean() for index in range(3)], abs=1e-6
        )
        assert all(row["mean"] <= row["max"] for row in entry["labels"])


def test_the_summary_has_every_picture_in_order_and_how_they_were_made():
    run_here(f"{SEGMENT} frames --to out --reading naclip --threshold 0.01")
    summary = json.loads(Path("out/labels.json").read_text())
    names = ("frame1", "frame2", "frame10")
    assert summary["pictures"] == [
        json.loads(Path(f"out/{name}_labels.json").read_text()) for name in names
    ]
    assert (summary["model"], summary["protocol"]["reading"], summary["protocol"]["threshold"]) == (
        "exported",
        "naclip",
        0.01,
    )
    rows = list(csv.DictReader(Path("out/labels.csv").read_text().splitlines()))
    files = ("frames/frame1.png", "frames/frame2.jpg", "frames/frame10.png")
    assert [(row["picture"], row["name"]) for row in rows] == [
        (file, name) for file in files for name in ("dog", "cat", "grass")
    ]


@pytest.mark.parametrize(
    ("labels", "options", "recorded"),
    [
        ("background,dog", "", {"prior": 0.5, "prior_offset": 0.2, "input_size": 32}),
        ("background,dog", "--threshold 0.01", {"prior": 0, "threshold": 0.01, "reading": "plain"}),
        ("cat,dog", "--protocol sclip-336", {"prior": 0, "window": 224, "reading": "sclip"}),
    ],
)
def test_the_summary_has_every_setting_of_the_map_that_takes_effect(
    labels, options, recorded, monkeypatch, capsys
):
    words = ["evaluation.prior=0.5", "evaluation.prior_offset=0.2"]
    load = partial(gestalt.load, overrides=words)
    monkeypatch.setattr("gestalt.commands.mapping.load", lambda target, overrides: load(target))
    run_here(f"segment frames/frame1.png --labels {labels} --model exported --to out {options}")
    summary = json.loads(Path("out/labels.json").read_text())
    assert summary["protocol"].items() >= recorded.items()
    assert ("prior_offset" in summary["protocol"]) == bool(recorded["prior"])
    replaced = "takes the place of the prior" in capsys.readouterr().err
    assert replaced == ("--threshold" in options)
    assert replaced == any("takes the place of" in caveat for caveat in summary["caveats"])


def test_an_existing_result_is_refused_before_any_work(refusal):
    Path("out").mkdir()
    Path("out/frame10_labels.json").write_text("mine")
    assert "out/frame10_labels.json: exists already; name another place with --to" in refusal(
        f"{SEGMENT} frames --to out"
    )
    assert [path.read_text() for path in Path("out").iterdir()] == ["mine"]


@pytest.mark.parametrize("line", [SEGMENT, f"{GROUP} --groups 3 --npy"])
def test_a_command_that_was_stopped_is_not_refused_the_second_time(line, monkeypatch):
    line += " frames --to out"
    with monkeypatch.context() as patch:
        patch.setattr("gestalt.commands.mapping.write_summary", lambda *_: 1 / 0)
        run_here(line, status=1)
    assert not Path("out").exists()
    run_here(line)
    assert len([*Path("out").glob("frame*.json")]) == 3


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_done(capsys):
    Path("frames/frame2.jpg").write_bytes(b"junk")
    long = shutil.copy("frames/frame1.png", f"frames/a{'0' * 250}.png")
    run_here(f"{SEGMENT} frames --to out --html page.html", status=1)
    errors = capsys.readouterr().err
    assert "frames/frame2.jpg: cannot be read as a picture" in errors
    assert "File name too long" in errors
    assert "2 of 4 pictures were skipped" in errors
    summary = json.loads(Path("out/labels.json").read_text())
    assert [Path(entry["picture"]).stem for entry in summary["pictures"]] == ["frame1", "frame10"]
    assert sorted(summary["skipped"]) == [long, "frames/frame2.jpg"]
    assert {path.name.partition("_")[0] for path in Path("out").glob("*_*")} == {
        "frame1",
        "frame10",
    }
    assert Path("page.html").read_text().count("<section") == 3


@pytest.mark.parametrize(
    ("command", "elongated", "squares"),
    [
        (f"{SEGMENT} frames", "whole_short_side", "whole_square"),
        (f"{GROUP} frames --groups 3", "pca_short_side", "pca_square"),
    ],
)
def test_a_picture_too_elongated_to_be_seen_whole_is_named_and_the_others_are_done(
    command, elongated, squares, capsys
):
    Image.new("RGB", (680, 40)).save("frames/frame3.png")
    run_here(f"{command} --protocol {elongated} --to out", status=1)
    errors = capsys.readouterr().err
    assert re.search(
        rf"frames/frame3\.png: 680 x 40 pixels are too elongated for protocol {elongated}, .* \d+ "
        r"x \d+ at once; crop",
        errors,
    )
    assert "1 of 4 pictures were skipped" in errors
    run_here(f"{command} --protocol {squares} --to squares")
    Image.new("RGB", (600, 40)).save("frames/frame3.png")
    run_here(f"{command} --protocol {elongated} --to narrow")


def test_the_result_of_one_picture_is_written_beside_it_or_to_output(capsys, refusal):
    line = f"{SEGMENT} frames/frame1.png"
    run_here(line)
    assert capsys.readouterr().out == "frames/frame1_segmented.png\n"
    assert (
        "frame1_segmented.png: exists already; name another place with --output, or this one"
    ) in refusal(line)
    written = Path("frames/frame1_segmented.png").read_bytes()
    Path("frames/frame1_segmented.png").write_bytes(b"an older result")
    for output in ("frames/frame1_segmented.png", "other.png"):
        run_here(f"{line} --output {output} --html page.html")
        assert Path(output).read_bytes() == written
    assert "frame1" in Path("page.html").read_text()
    run_here(f"{GROUP} frames/frame1.png --groups 3")
    with Image.open("frames/frame1_grouped.png") as grouped, Image.open("other.png") as segmented:
        assert grouped.height == segmented.height


def test_the_picture_itself_is_never_the_output(refusal):
    before = Path("frames/frame1.png").read_bytes()
    Path("link.png").symlink_to("frames/frame1.png")
    for command in (SEGMENT, f"{GROUP} --groups 3"):
        for output in ("frames/../frames/frame1.png", "link.png"):
            said = refusal(f"{command} frames/frame1.png --output {output}")
            assert f"--output {output}: this is the picture itself" in said
    assert Path("frames/frame1.png").read_bytes() == before


def test_groups_are_numbered_from_the_largest():
    run_here(f"{GROUP} frames --groups 4 --to out")
    for name in ("frame1", "frame2", "frame10"):
        entry = json.loads(Path(f"out/{name}_groups.json").read_text())
        areas = [row["area"] for row in entry["groups"]]
        assert [row["name"] for row in entry["groups"]] == [
            f"group {number}" for number in range(1, len(areas) + 1)
        ]
        assert len(areas) > 1
        assert areas == sorted(areas, reverse=True)
        assert sum(areas) == pytest.approx(1, abs=1e-5)
        with Image.open(f"out/{name}_groups.png") as indexed:
            values = np.asarray(indexed)
        assert [(values == number).mean() for number in range(len(areas))] == pytest.approx(
            areas, abs=1e-6
        )


def test_a_vision_only_model_is_refused_by_segment_before_any_file(tmp_path, refusal):
    from tests.gestalt.test_api import saved_timm

    saved_timm(tmp_path / "vit")
    line = "segment frames/frame1.png --labels a,b --ckpt timm:vit --to new"
    assert "vision-only" in refusal(line)
    assert not Path("new").exists()


def test_a_picture_whose_name_is_not_utf8_gets_its_results_and_its_name_back(capsys):
    name = os.fsdecode(b"frames/caf\xe9.png")
    os.rename("frames/frame1.png", name)
    run_here(f"{SEGMENT} frames --to out --html page.html")
    summary = json.loads(Path("out/labels.json").read_text(encoding="utf-8"))
    assert [entry["picture"] for entry in summary["pictures"]] == [
        name,
        "frames/frame2.jpg",
        "frames/frame10.png",
    ]
    assert "caf\\udce9" in Path("page.html").read_text(encoding="utf-8")
    run_here(SEGMENT, name)
    assert capsys.readouterr().out.splitlines()[-1] == "frames/caf\\udce9_segmented.png"


@pytest.mark.parametrize(
    ("command", "kind", "said"),
    [
        (
            "segment --labels 'dog, Dog'",
            "labels",
            [
                "generated scenes alone",
                'cannot tell the labels "dog", "Dog" apart',
                "add the label background",
            ],
        ),
        ("group --groups 3", "groups", ["generated scenes alone"]),
    ],
)
def test_the_caveats_of_a_model_are_printed_once_and_stand_in_the_summary_and_on_the_page(
    command, kind, said, monkeypatch, capsys
):
    monkeypatch.setattr("gestalt.commands.mapping.MAX_PICTURES", 1)
    target = str(Path("exported").absolute())
    run_here(f"{command} frames --model {target} --to out --html page.html")
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if line.startswith(f"gestalt: {target}: ")
    ]
    caveats = json.loads(Path(f"out/{kind}.json").read_text())["caveats"]
    assert [f"gestalt: {target}: {caveat}" for caveat in caveats] == lines
    assert all(part in caveat for part, caveat in zip(said, caveats, strict=True))
    page = unescape(Path("page.html").read_text())
    assert all(f"<p>exported: {caveat}</p>" in page for caveat in caveats)
