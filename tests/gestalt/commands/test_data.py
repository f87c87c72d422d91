"""``gestalt data``: sources are given as for training, errors are one line, and files are where the
output says.
"""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from gestalt.__main__ import main
from gestalt.config.identity import config_hash
from gestalt.config.loading import load
from gestalt.data_modules.corpora.stored_pairs import check_inside
from tests.data_modules.files import picture, write_flickr


@pytest.fixture
def flickr(tmp_path, monkeypatch):
    """A folder of six photographs, the second cut short, as data.root."""
    monkeypatch.chdir(tmp_path)
    write_flickr(
        tmp_path / "flickr", content=lambda number: picture(number)[: 400 if number == 1 else None]
    )
    return "data.root=flickr"


def test_inspection_writes_a_manifest_that_training_can_use(flickr, capsys):
    assert main(["data", "inspect", "flickr", flickr, "data.workers=0"]) == 0
    said = capsys.readouterr().out
    assert "bad: 1 of 6" in said
    assert "truncated 1, the first is 1.jpg in flickr/Images" in said
    manifest = said.split("data.manifest=")[1].strip()
    held = json.loads(Path(manifest).read_text())
    assert held["bad"] == [[1, "truncated", "flickr/Images", "1.jpg"]]
    assert held["captions"]["usable"] == 8
    assert (
        main(
            [
                "data",
                "pack",
                "flickr",
                flickr,
                f"data.manifest={manifest}",
                "--to",
                "tars",
                "--shards",
                "2",
            ]
        )
        == 0
    )
    assert "packed 5 samples into 2 tars" in capsys.readouterr().out


def test_a_packed_folder_can_be_inspected_as_a_source(flickr, capsys):
    assert (
        main(["data", "pack", "flickr", flickr, "--to", "tars", "--shards", "2", "--limit", "5"])
        == 0
    )
    assert "packed 5 samples into 2 tars in tars" in capsys.readouterr().out
    assert (
        main(["data", "inspect", "tars", "data.root=tars", "data.workers=0", "--to", "found.json"])
        == 0
    )
    held = json.loads(Path("found.json").read_text())
    assert [shard["samples"] for shard in held["shards"]] == [2, 3]
    assert all(len(shard["sha256"]) == 64 for shard in held["shards"])


def test_the_suggested_command_quotes_a_folder_with_a_space(flickr, capsys):
    assert main(["data", "pack", "flickr", flickr, "--to", "my tars", "--shards", "1"]) == 0
    assert "data.source=tars 'data.root=my tars'" in capsys.readouterr().out


def test_a_sheet_is_drawn_at_the_size_of_the_scale(flickr, capsys):
    parts = (
        "[{source: flickr, root: flickr, weight: 2}, {source: scenes, weight: 1, limit: 9, "
        "options: {recipe: prototype}}]"
    )
    words = [
        "data",
        "show",
        "mixture",
        f"data.mixture={parts}",
        "--scale",
        "tiny",
        "data.limit=6",
        "data.recipe=scenes_v1",
    ]
    assert main([*words, "--columns", "2", "--to", "sheet.png"]) == 0
    assert "sheet: sheet.png" in capsys.readouterr().out
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) >= 400


INSPECT = ["inspect", "flickr", "data.root=flickr"]
PACK = ["pack", *INSPECT[1:]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "flickr"], "data.root=None"),
        (
            [*INSPECT, "data.options.spilt=dev"],
            r"data\.options\.spilt=dev: .* did you mean 'split'?",
        ),
        (["inspect", "flickr", "data.root=nowhere"], "data.root=nowhere: not found"),
        (
            [*INSPECT, "data.caption=x"],
            "data.caption=x: Flickr8k captions have no columns",
        ),
        (["inspect", "scenes", "data.cache=x"], r"data\.cache=x: source scenes does not take it"),
        (
            [*INSPECT, "data.options.recipe=x"],
            r"data\.options\.recipe=x: has a key of its own",
        ),
        ([*INSPECT, "data.manifest=x.json"], "choose null"),
        ([*INSPECT, "--to", "no/x.json"], "folder no not found"),
        (
            [*INSPECT, "--to", "flickr"],
            r"--to flickr: is a folder; name a file, such as flickr/data\.json",
        ),
        (
            [
                *PACK,
                "--to",
                "flickr/captions.txt/x",
                "--shards",
                "2",
            ],
            "cannot be made: Not a directory",
        ),
        (
            ["inspect", "mixture", "data.mixture=[{source: scenes}, {source: flikr}]"],
            r"data\.mixture\[1\]\.source=flikr: did you mean 'flickr'",
        ),
        (
            [
                "inspect",
                "mixture",
                "data.mixture=[{source: scenes, limit: 4}, {source: scenes, limit: 4}]",
            ],
            "inspect each of its sources",
        ),
        (
            [*PACK, "--to", "flickr", "--shards", "2"],
            "--to flickr: exists already",
        ),
        (
            [*PACK, "--to", "x", "--shards", "9"],
            "--shards 9: the source has 6 samples",
        ),
    ],
)
def test_a_mistake_is_reported_in_one_line_with_the_remedy(words, message, flickr, capsys):
    assert main(["data", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line


@pytest.mark.parametrize("name", ["/etc/hostname", "../secret.jpg", "a/../../secret.jpg"])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_table_that_names_files_outside_of_its_folder_is_packed_only_where_that_is_allowed(
    flickr, capsys, name, mixed
):
    Path("t").mkdir()
    Path("t/a.csv").write_text(f"image,caption\n../flickr/Images/0.jpg,a\n{name},b\n")
    part = ["table", "data.root=t/a.csv"]
    if mixed:
        part = [
            "mixture",
            "data.mixture=[{source: table, root: t/a.csv, options: OPTIONS}, {source: flickr, "
            "root: flickr}]",
        ]
    words = ["data", "pack", *part, "--to", "tars", "--shards", "1"]
    assert main([word.replace("OPTIONS", "{}") for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(
        r"t/a\.csv names '\.\./flickr/Images/0\.jpg', which lies outside of t; "
        r".*data\.options\.outside=true",
        line,
    )
    allowed = [word.replace("OPTIONS", "{outside: true}") for word in words] + (
        [] if mixed else ["data.options.outside=true"]
    )
    assert main(allowed) == 0


def test_a_link_that_leaves_the_folder_is_outside(tmp_path):
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "c.jpg").symlink_to("../b.jpg")
    with pytest.raises(ValueError, match=r"names 'c\.jpg', which lies outside"):
        check_inside(["a.jpg", "c.jpg"], table=tmp_path, folder=tmp_path)


def test_inspection_says_which_key_is_wrong_where_images_are_missing(flickr, capsys):
    Path("a.csv").write_text("image,caption\n0.jpg,a\n")
    assert main(["data", "inspect", "table", "data.root=a.csv", "data.workers=0"]) == 1
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "missing_image 1" in line]
    assert "set data.options.images" in line
    assert "leave the bad samples out" not in said


def test_inspection_reports_samples_left_out_by_a_limit(flickr, capsys):
    assert main(["data", "inspect", "flickr", flickr, "data.workers=0", "data.limit=4"]) == 0
    assert "4 samples (data.limit leaves out 2 more)" in capsys.readouterr().out


def test_a_count_of_zero_is_refused_with_the_name_of_the_flag(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "show", "flickr", "data.root=flickr", "--count", "0"])
    assert stop.value.code == 2
    assert "argument --count: expected a number above 0, got '0'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_stops_inspection_before_it_looks(
    flickr, monkeypatch, capsys
):
    monkeypatch.setattr("gestalt.commands.data.os.access", lambda folder, mode: False)
    assert main(["data", "inspect", "flickr", flickr, "--to", "found.json"]) == 2
    assert "--to found.json: . cannot be written" in capsys.readouterr().err


def test_moving_the_folders_of_a_mixture_does_not_change_the_hash():
    hashes = {
        config_hash(
            load(
                "clippy_dino_max",
                scale="demo",
                overrides=["data.source=mixture", f"data.mixture=[{part}, {{source: scenes}}]"],
            )
        )
        for part in (
            "{source: tars, root: a/cc}",
            "{source: tars, root: b/cc}",
            "{source: tars, root: a/dd}",
            "{source: tars, root: a/cc, weight: 2}",
        )
    }
    assert len(hashes) == 3
